"""Configuration of repetition counting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.run import RunConfig


@dataclass(frozen=True)
class RepetitionDataConfig:
    """Which marked videos are read, and how.

    Attributes:
        train: Manifest (CSV) whose column `boundaries` marks the repetitions (`tubeletx-train manifest ucfrep`).
        test: Manifest of the test videos; null: the test split of `train`.
        train_split: Rows of `train` that count; null: all.
        test_split: Rows of the test manifest that count; null: all.
        frame_size: Side of a frame, pixels: the longer side is brought to it and the rest filled with black.
        windows_per_video: How often an epoch visits each training video, each time another stretch of it.
        max_window: Frames of the longest such stretch, unless two repetitions take more.
        flip: Probability that a training stretch is mirrored left to right.
        allow_unreadable: Leave out test videos that cannot be read, and count them in the results.
        reader: Which decoder reads the videos.
        num_workers: Decoding processes; 0 decodes in the training process.
        prefetch: Batches that each worker prepares ahead.
        timeout: Seconds without a batch after which a worker counts as hung.
        check_timeout: Seconds that the check before a run waits for one video.
        max_bad_share: Share of the training videos that may be unreadable before the run stops with the list.
    """

    train: str
    test: str | None = None
    train_split: str | None = "train"
    test_split: str | None = "val"
    frame_size: int = 112
    windows_per_video: int = 10
    max_window: int = 300
    flip: float = 0.5
    allow_unreadable: bool = False
    reader: str = "decord"
    num_workers: int = 2
    prefetch: int = 1
    timeout: float = 300.0
    check_timeout: float = 60.0
    max_bad_share: float = 0.05

    def __post_init__(self) -> None:
        for name in ("frame_size", "windows_per_video", "max_window", "prefetch"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} must be 1 or more, got {getattr(self, name)}")
        if self.num_workers < 0:
            raise ValueError(f"data.num_workers must be 0 or more, got {self.num_workers}")
        for name in ("flip", "max_bad_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class CounterConfig:
    """The network that estimates lengths of repetitions.

    Attributes:
        encoder: Name of an encoder; null: as in the checkpoint, or r2plus1d_18.
        width: Channels of its first stage; null: as in the checkpoint, or 64.
        temporal_strides: Of its four stages; null: as in the checkpoint, or (1, 2, 2, 2).
        side_frames: Frames that it sees of each of the two neighbouring repetitions.
    """

    encoder: str | None = None
    width: int | None = None
    temporal_strides: tuple[int, ...] | None = None
    side_frames: int = 16

    def __post_init__(self) -> None:
        if self.side_frames < 1:
            raise ValueError(f"model.side_frames must be 1 or more, got {self.side_frames}")


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
    model: CounterConfig = field(default_factory=CounterConfig)
    optim: OptimConfig = field(default_factory=_optim)
    refinements: int = 10
    box_weight: float = 50.0
    videos_per_pass: int = 4
    clips_per_pass: int = 32
    run: RunConfig = field(default_factory=lambda: RunConfig(output="runs/count"))

    def __post_init__(self) -> None:
        if self.refinements < 0:
            raise ValueError(f"refinements must be 0 or more, got {self.refinements}")
        for name in ("videos_per_pass", "clips_per_pass"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        every = self.run.evaluate_every or self.run.evaluate_every_epochs
        if self.protocol == "paper" and every is not None:
            raise ValueError('run.evaluate_every needs protocol "released": "paper" never looks at the tests before')
        if self.protocol == "released" and every is None:
            raise ValueError('protocol "released" needs run.evaluate_every_epochs: how often it looks at the tests')
        if self.optim.accumulate != 1:
            raise ValueError("optim.accumulate must be 1: a batch already takes several updates")


@dataclass(frozen=True)
class CountTestConfig:
    """Settings of a test of a trained counter.

    Attributes:
        checkpoint: A checkpoint of `count train`.
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


@dataclass(frozen=True)
class CountVideosConfig:
    """Settings of counting in videos that nobody has marked.

    Attributes:
        checkpoint: A checkpoint of `count train`.
        videos: A video, a folder of videos or a manifest.
        output: Folder for the pictures, one a video.
        reader: Which decoder reads the videos.
        clips_per_pass: Clips that go through the network at a time.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoint: str
    videos: str
    output: str = "counts"
    reader: str = "decord"
    clips_per_pass: int = 32
    device: str = "auto"
