"""Settings of the study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tubeletx_train.common.limits import require_positive


@dataclass(frozen=True)
class StudyConfig:
    """Settings of the study.

    Attributes:
        videos: A folder of videos, which are split 7 to 3, or a manifest with splits "train" and "held_out".
        output: Folder for runs and report; the same command goes on where it stopped.
        quick: Five arms, one seed, the recipes' learning rates: under 30 minutes on two cores.
        size: "small", for CPU cores, or "paper": R(2+1)D-18 at 16 x 112 x 112, for GPUs.
        arms: Arms to run, as the recipes under study/ are called; null runs all.
        seeds: Seeds that are reported.
        learning_rates: Tried for each arm on `search_seed`, as multiples of the recipe's; the best by the linear
            probe is taken for the reported seeds. Arms below own/ take the full method's. One value tries nothing.
        search_seed: Seed of the search, not reported.
        steps: Steps of a run; null takes the recipe's.
        jobs: Runs at once; null takes one for each GPU, or for each core where there is none.
        minutes: Stop after so long; runs under way save a checkpoint. Null runs to the end.
        labelled: Labelled videos that each run is also probed with: a manifest, or a folder for each class.
        group_pattern: See `probe --help`.
        attention_videos: Videos that the report draws activation maps of; null takes held-out ones, whose frames the
            report then shows.
        report: Folder of the report; null means "report" in the output folder.
        report_only: Run nothing, report on what there is.
    """

    videos: str
    output: str = "runs/study"
    quick: bool = False
    size: Literal["small", "paper"] = "small"
    arms: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    learning_rates: tuple[float, ...] = (0.5, 1.0, 2.0)
    search_seed: int = 100
    steps: int | None = None
    jobs: int | None = None
    minutes: float | None = None
    labelled: str | None = None
    group_pattern: str | None = None
    attention_videos: str | None = None
    report: str | None = None
    report_only: bool = False

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be one or more different numbers of 0 or more, not {self.seeds}")
        if self.search_seed in self.seeds or self.search_seed < 0:
            raise ValueError(f"search_seed must be 0 or more and none of the reported seeds, not {self.search_seed}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates must be one or more positive numbers, not {self.learning_rates}")
        require_positive(self, "jobs", "steps", "minutes")
