"""What fine-tuning and repetition counting have in common as tasks: they are tested, on the weights judged best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tubeletx_train.data import VideoRecord
from tubeletx_train.data.table import fingerprint
from tubeletx_train.engine.task import Batch, TrainingTask


class DownstreamTask(TrainingTask[Batch]):
    """Trains on the manifest `data.train`; its `evaluate` judges the network and tells `keep_if_best` the score.

    Attributes:
        best: Step, score and weights of the best look so far; None before the first.
    """

    # The lists of videos themselves are compared.
    free_on_resume: tuple[str, ...] = (
        *TrainingTask.free_on_resume,
        "data.train",
        "data.test",
        "data.allow_unreadable",
        "experiment",
        "method",
    )
    best: dict[str, Any] | None = None

    def share_running_statistics(self) -> None:
        """Give every process the main one's: each has gathered its own, and all judge the same network."""
        buffers = {name: buffer.cpu() for name, buffer in self.net.named_buffers()}
        self.net.load_state_dict(self.run.ranks.broadcast(buffers), strict=False)

    def keep_if_best(self, score: float) -> None:
        """Keep the network as it is, if no earlier one scored as much."""
        if self.best is None or score > self.best["score"]:
            weights = {name: value.cpu().clone() for name, value in self.net.state_dict().items()}
            self.best = {"step": self.step, "score": score, "model": weights}

    def take_best(self) -> int:
        """Put the best weights into the network, the last ones where none were judged; returns their step."""
        if self.best is None:
            return self.step
        self.net.load_state_dict(self.best["model"])
        return int(self.best["step"])

    def listed(self) -> Mapping[str, Sequence[VideoRecord]]:
        """The lists of videos that make the run what it is, by what a message calls them."""
        return {}

    def identity(self) -> dict[str, object]:
        """The lists of videos with their labels, wherever they lie."""
        return {what: fingerprint(records) for what, records in self.listed().items()}

    def video_lists(self) -> dict[str, list[str]]:
        """Their names."""
        return {what: [Path(record.path).name for record in records] for what, records in self.listed().items()}

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, best weights."""
        return super().state_dict() | {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state_dict(state)
        self.best = state["best"]
