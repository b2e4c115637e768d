"""The choices in which a counter is trained and tested as the original code does it, or as this project would."""

from __future__ import annotations

from dataclasses import dataclass

from tubeletx_train.config.repetition import RepetitionConfig


@dataclass(frozen=True)
class Procedure:
    """How windows are cut, what is asked in them, and how the first length of a test is found.

    Attributes:
        fixed_windows: Windows are cut at any frames, once for the run; otherwise from mark to mark, anew each epoch.
        extra_frames: Added to the distance between two marks to give the length that is to be told.
        max_log_scale: The largest correction of an anchor that training believes, as a logarithm.
        advance_by_window: After an update the middle moves on by the window over a number from 5 to 20; otherwise by
            the estimated repetition over it.
        start_in_first: A walk begins with a segment that starts in the window's first repetition; otherwise anywhere.
        unit_refinement: A test refines its first length by the left side's correction of the anchor 1 alone; otherwise
            by both sides' best anchors.
        least_repetitions: Test videos with fewer are left out.
    """

    fixed_windows: bool
    extra_frames: int
    max_log_scale: float
    advance_by_window: bool
    start_in_first: bool
    unit_refinement: bool
    least_repetitions: int


ORIGINAL = Procedure(
    fixed_windows=True,
    extra_frames=1,
    max_log_scale=2.0,
    advance_by_window=True,
    start_in_first=True,
    unit_refinement=True,
    least_repetitions=2,
)
REFINED = Procedure(
    fixed_windows=False,
    extra_frames=0,
    max_log_scale=0.5,
    advance_by_window=False,
    start_in_first=False,
    unit_refinement=False,
    least_repetitions=1,
)


def procedure_of(config: RepetitionConfig) -> Procedure:
    """The one that a configuration names."""
    return ORIGINAL if config.procedure == "original" else REFINED
