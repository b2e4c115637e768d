"""Configuration of repetition counting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tubeletx_train.common.limits import require_at_least, require_share
from tubeletx_train.config.data import ReaderName
from tubeletx_train.config.labelled import EncoderConfig, TestedDataConfig
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.run import RunConfig


@dataclass(frozen=True)
class RepetitionDataConfig(TestedDataConfig):
    """Which marked videos are read, and how.

    Attributes:
        train: Manifest (CSV) whose column `boundaries` marks the repetitions (`tubeletx-train manifest ucfrep`).
        frame_size: Side of a frame, pixels: the longer side is brought to it and the rest filled with black.
        windows_per_video: How often an epoch visits each training video, each time another stretch of it. Those
            stretches are drawn once for the run, or anew each epoch, by the run's `procedure`.
        max_window: Frames of the longest such stretch, unless two repetitions take more.
        flip: Probability that a training stretch is mirrored left to right.
    """

    train: str
    frame_size: int = 112
    windows_per_video: int = 10
    max_window: int = 300
    flip: float = 0.5
    test_split: str | None = field(default="val", kw_only=True)
    prefetch: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "frame_size", "windows_per_video", "max_window")
        require_share(self, "flip")


@dataclass(frozen=True)
class CounterConfig(EncoderConfig):
    """The network that estimates lengths of repetitions.

    Attributes:
        side_frames: Frames that it sees of each of the two neighbouring repetitions.
    """

    side_frames: int = 16

    def __post_init__(self) -> None:
        require_at_least(self, 1, "side_frames")


def _optim() -> OptimConfig:
    return OptimConfig(
        optimizer="adam", batch_size=32, epochs=100, lr=5e-5, weight_decay=1e-3, clip_norm=None, schedule="step"
    )


@dataclass(frozen=True)
class RepetitionConfig:
    """Everything that decides a training of repetition counting; the defaults are those of the paper's appendix C.

    Attributes:
        checkpoint: Weights the encoder starts from: a checkpoint of `pretrain`, torchvision-named weights, another
            method's checkpoint; or "scratch".
        data: Marked videos.
        experiment: Column of the tables that the results belong to (`tubeletx-train table`).
        method: Row of the tables; null: what kind of checkpoint it is.
        protocol: "paper" tests the last weights; "released" those that count the test split best, of the looks taken at
            it every `run.evaluate_every_epochs`.
        procedure: "original" trains and tests as the code of UCFRep's authors does, which the paper and its released
            code use; "refined" as this project would: lengths that the marks state, windows from mark to mark drawn
            anew each epoch, and walks that follow the estimates.
        model: The network.
        optim: Optimisation; a step is a batch of stretches and takes several updates.
        refinements: Updates a batch after its first one, each with estimates that the one before has refined.
        box_weight: Weight of the loss of lengths beside that of anchors.
        videos_per_pass: Test videos that are counted at the same time.
        clips_per_pass: Clips that go through the network at a time when counting.
        run: Where the run writes and how it is run.
    """

    checkpoint: str
    data: RepetitionDataConfig
    experiment: str | None = None
    method: str | None = None
    protocol: Literal["paper", "released"] = "paper"
    procedure: Literal["original", "refined"] = "original"
    model: CounterConfig = field(default_factory=CounterConfig)
    optim: OptimConfig = field(default_factory=_optim)
    refinements: int = 10
    box_weight: float = 50.0
    videos_per_pass: int = 4
    clips_per_pass: int = 32
    run: RunConfig = field(default_factory=lambda: RunConfig(output="runs/count"))

    def __post_init__(self) -> None:
        require_at_least(self, 0, "refinements")
        require_at_least(self, 1, "videos_per_pass", "clips_per_pass")
        every = self.run.evaluate_every or self.run.evaluate_every_epochs
        if self.protocol == "paper" and every is not None:
            raise ValueError('run.evaluate_every needs protocol "released": "paper" never looks at the tests before')
        if self.protocol == "released" and every is None:
            raise ValueError('protocol "released" needs run.evaluate_every_epochs: how often it looks at the tests')
        if self.optim.accumulate != 1:
            raise ValueError(f"optim.accumulate: got {self.optim.accumulate}, needs 1: a batch has several updates")


@dataclass(frozen=True)
class CountTestConfig:
    """Settings of a test of a trained counter.

    Attributes:
        checkpoint: The model.pt of `count train`, or the folder of its run.
        videos: Manifest of the test videos; null: that of the training run.
        split: Rows of it that count; null: those of the training run.
        output: Folder for results.json.
        allow_unreadable: Leave out videos that cannot be read, and count them in the results.
        clips_per_pass: Clips that go through the network at a time.
        num_workers: Processes that check the videos.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoint: str
    videos: str | None = None
    split: str | None = None
    output: str = "runs/count-test"
    allow_unreadable: bool = False
    clips_per_pass: int = 32
    num_workers: int = 2
    device: str = "auto"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "clips_per_pass")
        require_at_least(self, 0, "num_workers")


@dataclass(frozen=True)
class CountVideosConfig:
    """Settings of counting in videos that nobody has marked.

    Attributes:
        checkpoint: The model.pt of `count train`, or the folder of its run.
        videos: A video, a folder of videos or a manifest.
        output: Folder for the pictures, one a video.
        reader: Which decoder reads the videos.
        clips_per_pass: Clips that go through the network at a time.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoint: str
    videos: str
    output: str = "counts"
    reader: ReaderName = "decord"
    clips_per_pass: int = 32
    device: str = "auto"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "clips_per_pass")
