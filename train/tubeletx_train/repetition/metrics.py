"""What repetition counting is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def counting_metrics(counts: Sequence[int], true_counts: Sequence[int]) -> dict[str, float]:
    """Mean error and off-by-one accuracy.

    Args:
        counts: Repetitions counted in each video.
        true_counts: Repetitions marked, 1 or more.

    Returns:
        "mean_error": mean of |c - c^| / c, the paper's "Mean Error"; "off_by_one_accuracy": share of the videos that
        are counted with an error of one at most; "over_count" and "under_count": the parts of the mean error that come
        of counting too many and too few.

    Raises:
        ValueError: No videos, as many counts as not, or nothing to count.
    """
    found, truth = np.asarray(counts, np.float64), np.asarray(true_counts, np.float64)
    if not len(truth) or found.shape != truth.shape or truth.min() < 1:
        raise ValueError(f"true_counts: got {true_counts}, needs one of 1 or more for each of the counts {counts}")
    error = (found - truth) / truth
    return {
        "mean_error": float(np.abs(error).mean()),
        "off_by_one_accuracy": float((np.abs(found - truth) <= 1).mean()),
        "over_count": float(np.maximum(error, 0).mean()),
        "under_count": float(np.maximum(-error, 0).mean()),
    }


def format_counting(metrics: Mapping[str, float]) -> str:
    """One line for people."""
    return (
        f"mean error {metrics['mean_error']:.3f} (too many {metrics['over_count']:.3f}, too few "
        f"{metrics['under_count']:.3f}), off by one at most in {metrics['off_by_one_accuracy']:.1%}"
    )
