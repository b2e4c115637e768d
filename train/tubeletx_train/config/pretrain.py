"""Configuration of a pretraining run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tubeletx.config import TubeletConfig
from tubeletx_train.common.limits import require_at_least, require_positive, require_share
from tubeletx_train.config.data import ColorConfig, DataConfig
from tubeletx_train.config.optim import OptimConfig
from tubeletx_train.config.run import RunConfig

__all__ = [
    "ContrastConfig",
    "EvaluationConfig",
    "ModelConfig",
    "OptimConfig",
    "PretrainConfig",
    "RunConfig",
    "TracksConfig",
]


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        encoder: r2plus1d_18, r2plus1d_10, r3d_18, r3d_10, r2plus1d_18_tclr (that of TCLR's checkpoints) or i3d (which
            takes clips of 224 pixels).
        width: Channels of the first stage; 64 is the standard network.
        temporal_strides: Of the four stages, 1 or 2 each; (1, 2, 2, 2) is the standard network, which leaves a clip of
            8 frames one time step.
        dim: Dimension of the embedding that the loss compares.
        batch_norm_eps: Added to the variance in every batch norm; the released code has 1e-3 in R(2+1)D and R3D.
        batch_norm: Over what batch norm takes its statistics where several processes train: each over its own clips
            ("local"), all over all clips ("sync"), or, for keys, each over clips drawn from all ("shuffle", as in
            MoCo), so that the statistics of a positive are not those of its query.
        initialisation: Of the convolutions: "he", normal by the outgoing connections, as torchvision's networks, or
            "torch", uniform by the incoming ones, as PyTorch's layers, which the released code leaves them at.
        init_from: Checkpoint whose weights a new run begins with: of `pretrain`, or the folder of its run, or of
            another method, of which the encoder is taken; null begins with random ones.
    """

    encoder: str = "r2plus1d_18"
    width: int = 64
    temporal_strides: tuple[int, ...] = (1, 2, 2, 2)
    dim: int = 128
    batch_norm_eps: float = 1e-5
    batch_norm: Literal["local", "sync", "shuffle"] = "local"
    initialisation: Literal["he", "torch"] = "he"
    init_from: str | None = None

    def __post_init__(self) -> None:
        require_at_least(self, 1, "dim")


@dataclass(frozen=True)
class ContrastConfig:
    """What is contrasted with what.

    Attributes:
        mode: "tubelet" pairs clips of two videos that share tubelets; "temporal" pairs two clips of one video, without
            tubelets (the paper's baseline).
        queue_size: Keys kept as negatives; 0 keeps none, so that all negatives are of the same step.
        momentum: Share of its old value that a key parameter keeps at each step.
        temperature: Temperature of the loss.
        own_negatives: One more negative for each query, the key clip again with the same patches: "reversed" plays
            their motion backwards, "resampled" moves them on other tubelets' paths, "turned" moves them on the same
            paths but turns, scales and shears them as other tubelets are; "none" is the paper.
        batch_negatives: Whether the other keys of the step are negatives too, beside the queue.
        still_background: Freeze each clip to its first frame before tubelets are pasted, so that only they move.
        patches: "shared" pastes patches of the query clip onto both, as the paper does; "per_clip" gives each clip
            patches of its own, so that the pair has the same motion in another appearance.
        shared_patches: Rows of a batch whose tubelets have the patches, sizes and shapes of the first of them, each
            with a motion of its own: within such a group only motion tells a pair from its negatives. A row's group
            is its place in the order of the epoch, and so depends on (seed, epoch, sample id) alone. 1 is the paper.
        shared_place: Whether in such a group the tubelets also begin where those of its first row do.
        path_offset: Move the key clip's tubelets as a whole, along x and y by up to this share of the frame's sides,
            so that place does not give the pair away; 0 is the paper.
    """

    mode: Literal["tubelet", "temporal"] = "tubelet"
    queue_size: int = 16384
    momentum: float = 0.999
    temperature: float = 0.2
    own_negatives: Literal["none", "reversed", "resampled", "turned"] = "none"
    batch_negatives: bool = False
    still_background: bool = False
    patches: Literal["shared", "per_clip"] = "shared"
    shared_patches: int = 1
    shared_place: bool = False
    path_offset: float = 0.0

    def __post_init__(self) -> None:
        if self.mode == "temporal" and self.own_negatives in ("resampled", "turned"):
            raise ValueError(f'own_negatives "{self.own_negatives}" needs mode "tubelet"')
        require_at_least(self, 1, "shared_patches")
        if self.shared_patches > 1 and (self.mode == "temporal" or self.patches == "per_clip"):
            raise ValueError('shared_patches above 1 needs mode "tubelet" and patches "shared"')
        if self.shared_place and self.shared_patches == 1:
            raise ValueError("shared_place needs shared_patches above 1")
        require_share(self, "momentum", "path_offset")
        require_positive(self, "temperature")
        require_at_least(self, 0, "queue_size")
        if self.queue_size == 0 and not self.batch_negatives and self.own_negatives == "none":
            raise ValueError("queue_size 0 leaves no negatives; set batch_negatives or own_negatives")


@dataclass(frozen=True)
class TracksConfig:
    """Whether tracks are predicted beside contrast, from the encoder's features before pooling.

    Attributes:
        weight: Of the loss of the tracks beside that of the contrast; 0 predicts none, as the paper.
        grid: Rows and columns of cells that divide the query clip's first frame evenly: what each of them shows is
            followed through the clip.
    """

    weight: float = 0.0
    grid: tuple[int, int] = (7, 7)

    def __post_init__(self) -> None:
        require_at_least(self, 0, "weight")
        if min(self.grid) < 1:
            raise ValueError(f"grid: got {self.grid}, needs two numbers of 1 or more, rows and columns")


@dataclass(frozen=True)
class EvaluationConfig:
    """What the encoder is judged by along the run, as often as `run.evaluate_every` says.

    Attributes:
        videos: A manifest of labelled videos, or a folder with a folder for each class: their classes are read out of
            frozen features, by the nearest neighbours and by a linear classifier. The clips stay in memory. null: the
            motion probe on the run's own videos, which needs no labels.
        group_pattern: Regular expression whose first group, found in a file's name, names the video's group; each is
            judged by classifiers fitted on the others. Null: the split "test" is judged by "train" where there are
            splits, else each group of the column `group` by the others, else each video by the others.
        clips: Clips of a video, evenly spaced, whose features are averaged.
    """

    videos: str | None = None
    group_pattern: str | None = None
    clips: int = 4

    def __post_init__(self) -> None:
        require_at_least(self, 1, "clips")


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that decides a pretraining run.

    Attributes:
        data: What is read and how clips are drawn.
        tubelets: How tubelets look and move.
        color: Colour augmentation.
        model: The network.
        contrast: What is contrasted with what.
        tracks: Whether tracks are predicted too.
        optim: Optimisation.
        evaluation: What the encoder is judged by along the run.
        run: Where the run writes and how it is run.
    """

    data: DataConfig
    tubelets: TubeletConfig = field(default_factory=TubeletConfig)
    color: ColorConfig = field(default_factory=ColorConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    tracks: TracksConfig = field(default_factory=TracksConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.contrast.own_negatives == "turned" and not self.tubelets.transforms:
            raise ValueError('contrast.own_negatives "turned" needs tubelets.transforms')
        if self.tracks.weight and self.contrast.mode == "temporal":
            raise ValueError(
                'tracks.weight above 0 needs contrast.mode "tubelet": without tubelets no tracks are known'
            )
        rows = self.optim.batch_size // self.optim.accumulate
        if self.contrast.queue_size == 0 and self.contrast.own_negatives == "none" and rows == 1:
            raise ValueError(
                "optim.batch_size: got one pair a part, needs two or more where contrast.queue_size is 0, as all "
                "negatives are other pairs of the same part of a step"
            )
        if self.evaluation.videos is not None and self.run.evaluate_every is self.run.evaluate_every_epochs is None:
            raise ValueError("evaluation.videos needs run.evaluate_every or run.evaluate_every_epochs")
