"""Pictures: previews of positive pairs and training curves."""

from tubeletx_train.figures.curves import training_curves
from tubeletx_train.figures.preview import animation, contact_sheet

__all__ = ["animation", "contact_sheet", "training_curves"]
