"""Where a run writes and how it is run; shared by everything that trains."""

from __future__ import annotations

from dataclasses import dataclass

from tubeletx_train.common.limits import require_at_least, require_seed
from tubeletx_train.common.trackers import TrackerName


@dataclass(frozen=True)
class RunConfig:
    """Where a run writes and how it is run.

    Attributes:
        output: Folder for checkpoints and logs.
        resume: "auto" goes on from the newest checkpoint in the output folder; "never" refuses a folder that has one;
            anything else is the path of the checkpoint to go on from.
        seed: Seed of everything drawn.
        device: "auto", "cpu", "cuda" or "cuda:N". Under torchrun each process takes the GPU of its local rank.
        threads: CPU threads for tensor operations; null leaves torch's choice.
        compile: Whether networks are compiled by `torch.compile`; the first steps then take minutes.
        log_every: Steps between two log lines.
        checkpoint_every: Steps between two checkpoints; there is always one at the end.
        keep_checkpoints: The newest checkpoints kept.
        keep_every_epochs: The checkpoint at the end of each so-many-th epoch is kept for good; null keeps none.
        evaluate_every: Steps between two evaluations, for a run that has one; null makes none.
        evaluate_every_epochs: The same in epochs.
        tensorboard: Whether to write TensorBoard event files.
        tracker: Report to Weights & Biases ("wandb") or MLflow ("mlflow") too, where that package is installed.
        requeue: Have Slurm start the job anew where SIGUSR1 ends the run early (`sbatch --signal=USR1@300`).
        allow_changed_videos: Go on though videos came or went since the checkpoint; they are named, and the order of
            samples is another from there on.
    """

    output: str = "runs/pretrain"
    resume: str = "auto"
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    compile: bool = False
    log_every: int = 10
    checkpoint_every: int = 500
    keep_checkpoints: int = 3
    keep_every_epochs: int | None = None
    evaluate_every: int | None = None
    evaluate_every_epochs: int | None = None
    tensorboard: bool = True
    tracker: TrackerName = "none"
    requeue: bool = False
    allow_changed_videos: bool = False

    def __post_init__(self) -> None:
        counts = ("threads", "log_every", "checkpoint_every", "keep_checkpoints", "keep_every_epochs")
        require_at_least(self, 1, *counts, "evaluate_every", "evaluate_every_epochs")
        require_seed(self)
        if self.evaluate_every is not None and self.evaluate_every_epochs is not None:
            raise ValueError("evaluate_every and evaluate_every_epochs exclude each other")
