"""Training curves from a JSON-lines log."""

from __future__ import annotations

from pathlib import Path


def training_curves(
    log: str | Path, path: str | Path, *, loss: str = "loss", accuracy: str = "top1", title: str = "Pretraining"
) -> Path:
    """Draw loss and contrastive top-1 over steps, raw and smoothed.

    Args:
        log: JSON lines with "step" and the two named fields (top-1 as a share in [0, 1]); lines without
            them are passed over.
        path: PNG to write; parent folders are made.
        loss: Field of the loss.
        accuracy: Field of the contrastive top-1.
        title: Heading.
    """
    raise NotImplementedError
