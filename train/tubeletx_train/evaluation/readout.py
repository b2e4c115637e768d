"""What can be read from frozen features: a linear classifier and the nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

_NEIGHBORS = 10


@dataclass(frozen=True)
class Readout:
    """Accuracies on samples that were not fitted on, as shares.

    Attributes:
        linear: Of logistic regression.
        knn: Of the 10 nearest neighbours by cosine (fewer where a class has fewer samples to fit on).
        chance: Of the commonest class.
        confusion: Counts of the linear classifier, a row for each class and a column for each prediction.
        pairs: Accuracy of the linear classifier between two classes, by "one / other"; chance is 1/2. Pairs without a
            sample to judge by are left out.
    """

    linear: float
    knn: float
    chance: float
    confusion: list[list[int]]
    pairs: dict[str, float]

    def summary(self) -> dict[str, float]:
        """The three shares, by name."""
        return {"linear": self.linear, "knn": self.knn, "chance": self.chance}


def read_out(
    fit: tuple[Tensor, Tensor],
    judge: tuple[Tensor, Tensor],
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]] = (),
) -> Readout:
    """Fit on some features, judge by others.

    Args:
        fit: Features (N, D) and labels (N,), indices into `names`; every class at least once.
        judge: Likewise, of other samples.
        names: Classes.
        pairs: Classes to tell apart by twos.
    """
    features, labels = _arrays(*fit)
    others, truth = _arrays(*judge)
    linear = _linear().fit(features, labels)
    predicted = linear.predict(others)
    knn = float(_knn(labels).fit(features, labels).score(others, truth))
    scores = linear.decision_function(others)
    by_pair = {}
    for pair in pairs:
        one, other = (names.index(name) for name in pair)
        rows = (truth == one) | (truth == other)
        if not rows.any():
            continue
        right = (scores[rows, one] > scores[rows, other]) == (truth[rows] == one)
        by_pair[" / ".join(pair)] = float(right.mean())
    return _result(truth, predicted, knn, names, by_pair)


def read_out_by_group(features: Tensor, labels: Tensor, groups: Sequence[str], names: Sequence[str]) -> Readout:
    """Leave one group out: each is judged by classifiers fitted on all the others.

    Args:
        features: (N, D).
        labels: (N,) indices into `names`.
        groups: N names, at least two different ones.
        names: Classes.

    Raises:
        ValueError: Without some group only one class is left.
    """
    samples, truth = _arrays(features, labels)
    predicted, nearest = np.empty_like(truth), np.empty_like(truth)
    for rest, left_out in LeaveOneGroupOut().split(samples, truth, np.asarray(groups)):
        if len(set(truth[rest])) < 2:
            raise ValueError(f"without group {groups[left_out[0]]!r} there is only one class to fit on")
        for into, classifier in ((predicted, _linear()), (nearest, _knn(truth[rest]))):
            into[left_out] = classifier.fit(samples[rest], truth[rest]).predict(samples[left_out])
    return _result(truth, predicted, float((nearest == truth).mean()), names, {})


def _linear() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


def _knn(labels: npt.NDArray[Any]) -> Pipeline:
    neighbors = min(_NEIGHBORS, int(np.unique(labels, return_counts=True)[1].min()))
    return make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=neighbors, metric="cosine"))


def _arrays(features: Tensor, labels: Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    return features.double().numpy(), labels.numpy()


def _result(
    truth: npt.NDArray[Any], predicted: npt.NDArray[Any], knn: float, names: Sequence[str], pairs: dict[str, float]
) -> Readout:
    return Readout(
        linear=float((predicted == truth).mean()),
        knn=knn,
        chance=float(np.bincount(truth).max() / len(truth)),
        confusion=confusion_matrix(truth, predicted, labels=range(len(names))).tolist(),
        pairs=pairs,
    )
