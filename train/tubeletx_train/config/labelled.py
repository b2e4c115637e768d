"""Configuration of fine-tuning and evaluation with labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tubeletx_train.common.limits import (
    require_at_least,
    require_positive,
    require_positive_share,
    require_range,
    require_seed,
    require_share,
)
from tubeletx_train.config.data import IMAGENET, ColorConfig, Normalization, ReadingConfig
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.run import RunConfig

Task = Literal["recognition", "multilabel"]
Protocol = Literal["paper", "released"]
Mode = Literal["test", "linear", "knn", "retrieval"]


@dataclass(frozen=True, kw_only=True)
class TestedDataConfig(ReadingConfig):
    """Which videos are tested on beside those that are trained on, the manifest `train`.

    Attributes:
        test: Manifest of the test videos; null: the test split of `train`.
        train_split: Rows of `train` that count; null: all.
        test_split: Rows of the test manifest that count; null: all.
        allow_unreadable: Leave out test videos that cannot be read, and count them in the results.
    """

    test: str | None = None
    train_split: str | None = "train"
    test_split: str | None = "test"
    allow_unreadable: bool = False


@dataclass(frozen=True)
class LabelledDataConfig(TestedDataConfig):
    """Which labelled videos are read, and how clips are cut from them.

    Attributes:
        train: Manifest (CSV) of the training videos; an evaluation of a fine-tuned network needs none.
        num_classes: Outputs of the network; null: as many as the manifests have labels. More than that is allowed, as
            a split may lack a class; fewer is an error.
        per_class: Train on this many videos of each class, drawn from `run.seed`; null: all.
        share: Train on this share of the videos of each class, drawn from `run.seed`.
        num_frames: Frames of a clip, T.
        fps: Rate that frames are taken at, in Hz; null: the video's own.
        stride: Of those frames every how many-th is taken.
        short: What a video shorter than a clip shows after its end: "loop" begins again, "hold" repeats its last frame.
        crop_size: Side S of the square clip, pixels.
        decode_size: Short side that larger frames are reduced to as they are decoded, pixels; null: never.
        crop: Training windows: "random_resized" by `crop_area` and `crop_ratio`, or "short_side": the frame is scaled
            so that its short side is one of `short_sides`, then an S x S window is cut.
        crop_area: Smallest and largest share of the frame that a random-resized window covers.
        crop_ratio: Smallest and largest width/height of one.
        short_sides: Smallest and largest short side, pixels; 1 / side is uniform.
        flip: Probability that a training clip is mirrored left to right.
        samples_per_video: How often an epoch visits each training video.
        test_clips: Clips, linearly spaced in time, that a test video is judged by.
        test_crops: Windows of each of them: 1 (centre) or 3 (along the long side).
        test_crop_share: Side of a test window as a share of the frame's short side.
        mean: Subtracted from the colours of red, green and blue in [0, 1]; by default those of ImageNet, which
            pretraining has too.
        std: What they are divided by then.
    """

    train: str | None = None
    num_classes: int | None = None
    per_class: int | None = None
    share: float | None = None
    num_frames: int = 32
    fps: float | None = 16.0
    stride: int = 1
    short: Literal["loop", "hold"] = "loop"
    crop_size: int = 112
    decode_size: int | None = 256
    crop: Literal["random_resized", "short_side"] = "random_resized"
    crop_area: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    short_sides: tuple[int, int] = (128, 170)
    flip: float = 0.5
    samples_per_video: int = 1
    test_clips: int = 10
    test_crops: Literal[1, 3] = 1
    test_crop_share: float = 0.875
    mean: tuple[float, float, float] = IMAGENET.mean
    std: tuple[float, float, float] = IMAGENET.std

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "num_frames", "stride", "crop_size", "samples_per_video", "test_clips")
        require_positive(self, "num_classes", "per_class", "decode_size", "fps")
        require_positive_share(self, "share", "test_crop_share")
        require_share(self, "flip")
        require_range(self, "crop_area", most=1)
        require_range(self, "crop_ratio")
        if min(self.std) <= 0:
            raise ValueError(f"std: got {self.std}, needs three positive numbers")
        if self.share is not None and self.per_class is not None:
            raise ValueError("per_class and share exclude each other")
        if self.crop == "short_side" and not self.crop_size <= self.short_sides[0] <= self.short_sides[1]:
            raise ValueError(
                f"short_sides: got {self.short_sides}, needs two sizes of at least crop_size={self.crop_size}, the "
                "smaller first"
            )

    @property
    def normalization(self) -> Normalization:
        """Of colours."""
        return Normalization(self.mean, self.std)

    @property
    def views(self) -> int:
        """The most clips that one test video gives."""
        return self.test_clips * self.test_crops


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder, where it is to be another than its checkpoint says.

    Attributes:
        encoder: Name of an encoder; null: as in the checkpoint, or r2plus1d_18.
        width: Channels of the first stage; null: as in the checkpoint, or 64.
        temporal_strides: Of the four stages; null: as in the checkpoint, or (1, 2, 2, 2).
        allow_missing: Tensors of the encoder, by their names or what those begin with ("layer4."), that the checkpoint
            need not hold; they stay random. Any other that it lacks is an error.
    """

    encoder: str | None = None
    width: int | None = None
    temporal_strides: tuple[int, ...] | None = None
    allow_missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassifierConfig(EncoderConfig):
    """The encoder and its classifier.

    Attributes:
        dropout: Share of the pooled features that training leaves out.
        precise_batches: Batches of training clips over which the statistics of batch norm are averaged anew before each
            look at the weights and before the test; 0 keeps the running ones.
    """

    dropout: float = 0.0
    precise_batches: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 0, "precise_batches")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: got {self.dropout}, needs one in [0, 1)")


@dataclass(frozen=True)
class SelectionConfig:
    """Which of the weights along a run are tested; `run.evaluate_every_epochs` says how often there is a choice.

    Attributes:
        held_out: Share of each class's training videos that is not trained on but chosen by. 0, the paper's protocol,
            trains on all and tests the last weights. `protocol: released` chooses by the test split instead, as the
            released code does.
        clips: Clips of each video that it is chosen by.
    """

    held_out: float = 0.0
    clips: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out: got {self.held_out}, needs one in [0, 1)")
        require_at_least(self, 1, "clips")


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides a fine-tuning run.

    Attributes:
        checkpoint: Weights the encoder starts from: a checkpoint of `pretrain` or the folder of its run (the newest
            one then), torchvision-named weights, another method's checkpoint; or "scratch".
        data: Labelled videos and clips.
        experiment: Column of the tables that the results belong to (`tubeletx-train table`).
        method: Row of the tables; null: what kind of checkpoint it is.
        task: "recognition" (one class a video) or "multilabel" (any number of them).
        protocol: "paper", or "released": chosen by the test split, and classes without a test video count as 0 in the
            mean class accuracy.
        model: Encoder and classifier.
        color: Colour augmentation.
        optim: Optimisation; the defaults are those of UCF101 in Table 10.
        selection: Which weights are tested.
        run: Where the run writes and how it is run.
    """

    checkpoint: str
    data: LabelledDataConfig = field(default_factory=LabelledDataConfig)
    experiment: str | None = None
    method: str | None = None
    task: Task = "recognition"
    protocol: Protocol = "paper"
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    color: ColorConfig = field(
        default_factory=lambda: ColorConfig(probability=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)
    )
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            optimizer="adam",
            epochs=160,
            lr=1e-4,
            weight_decay=0.0,
            clip_norm=None,
            schedule="step",
            milestones=(60, 100, 140),
            gamma=0.3,
        )
    )
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(output="runs/finetune", evaluate_every_epochs=10))


@dataclass(frozen=True)
class FrozenProbeConfig:
    """How frozen features are judged.

    Attributes:
        epochs: Passes over the features that the linear classifier is trained for (the released code: 100).
        batch_size: Features a step.
        lr: Learning rate of Adam.
        milestones: Epochs after which it is multiplied by 0.3.
        neighbors: Nearest neighbours, by cosine, that vote.
    """

    epochs: int = 100
    batch_size: int = 128
    lr: float = 0.01
    milestones: tuple[int, ...] = (40, 80)
    neighbors: int = 10

    def __post_init__(self) -> None:
        require_at_least(self, 1, "epochs", "batch_size", "neighbors")


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of an evaluation without fine-tuning.

    Attributes:
        checkpoint: For `mode: test` the model.pt of a fine-tuning run, or the run's folder; otherwise as for
            fine-tuning.
        data: Labelled videos and clips.
        mode: "test" tests a fine-tuned network; the others judge frozen features, averaged over
            `data.test_clips`: a "linear" classifier, "knn", or "retrieval" of training videos by test videos.
        experiment: Column of the tables that the results belong to.
        method: Row of the tables; null: what kind of checkpoint it is.
        task: As for fine-tuning.
        protocol: As for fine-tuning.
        model: Encoder.
        probe: How frozen features are judged.
        batch_size: Clips that go through the network at a time.
        features: Folder in which frozen features are kept, a file for each checkpoint and list of videos.
        output: Folder for results.json.
        seed: Seed of everything drawn.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "float32", or "bfloat16" for autocast.
    """

    checkpoint: str
    data: LabelledDataConfig = field(default_factory=LabelledDataConfig)
    mode: Mode = "test"
    experiment: str | None = None
    method: str | None = None
    task: Task = "recognition"
    protocol: Protocol = "paper"
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    probe: FrozenProbeConfig = field(default_factory=FrozenProbeConfig)
    batch_size: int = 32
    features: str = "runs/features"
    output: str = "runs/evaluate"
    seed: int = 0
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        require_at_least(self, 1, "batch_size")
        require_seed(self)
        if self.mode != "test" and self.task != "recognition":
            raise ValueError(f'mode "{self.mode}" needs task "recognition"')
