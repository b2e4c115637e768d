"""What can be read from frozen features: by a linear classifier, by the nearest neighbours.

`read_out` is for some thousand clips, `linear_logits` for whole data sets; neighbours are found alike in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.optim.lr_scheduler import MultiStepLR

from tubeletx_train.config.labelled import FrozenProbeConfig
from tubeletx_train.evaluation.embed import by_video

_NEIGHBORS = 10
_GAMMA = 0.3
_INITIAL_STD = 0.01


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

    def caption(self, whose: str) -> str:
        """What stands over the confusion matrix."""
        return f"{whose}: {self.linear:.0%} right (chance {self.chance:.0%})"


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
    knn = float(_knn(_few(labels)).fit(features, labels).score(others, truth))
    scores = linear.predict_log_proba(others)  # one column a class, of two classes too
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
        for into, classifier in ((predicted, _linear()), (nearest, _knn(_few(truth[rest])))):
            into[left_out] = classifier.fit(samples[rest], truth[rest]).predict(samples[left_out])
    return _result(truth, predicted, float((nearest == truth).mean()), names, {})


def _linear() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


def _knn(neighbors: int) -> Pipeline:
    return make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=neighbors, metric="cosine"))


def _few(labels: npt.NDArray[Any]) -> int:
    return min(_NEIGHBORS, int(np.unique(labels, return_counts=True)[1].min()))


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


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of views, and the classes of the videos that they are of.

    Attributes:
        values: (N, D).
        places: (N,), the video of each view.
        labels: (N,), its class.
    """

    values: Tensor
    places: Tensor
    labels: Tensor

    def of_videos(self) -> tuple[Tensor, Tensor]:
        """Unit features (V, D), the views of each video averaged, and its class (V,)."""
        values, videos = by_video(normalize(self.values, dim=1), self.places, "mean")
        label_of = dict(zip(self.places.tolist(), self.labels.tolist(), strict=True))
        return normalize(values, dim=1), torch.tensor([label_of[video] for video in videos.tolist()])


def linear_logits(
    train: LabelledFeatures, test: LabelledFeatures, num_classes: int, config: FrozenProbeConfig, seed: int
) -> Tensor:
    """Train a linear classifier on standardised features, and put the test views through it: (N, C).

    Each view is an example of its own. Optimiser and schedule are those of the released code's linear evaluation,
    whose batch norms however kept moving.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, std = train.values.mean(0), train.values.std(0, correction=0).clamp(min=1e-6)
    inputs = (train.values - mean) / std
    layer = nn.Linear(inputs.shape[1], num_classes)
    nn.init.normal_(layer.weight, std=_INITIAL_STD, generator=generator)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layer.parameters(), lr=config.lr)
    schedule = MultiStepLR(optimizer, list(config.milestones), _GAMMA)
    for _ in range(config.epochs):
        for rows in torch.split(torch.randperm(len(inputs), generator=generator), config.batch_size):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(layer(inputs[rows]), train.labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        logits: Tensor = layer((test.values - mean) / std)
    return logits


def nearest_neighbor_scores(
    train: LabelledFeatures, test: LabelledFeatures, num_classes: int, neighbors: int
) -> tuple[Tensor, Tensor]:
    """Votes of the nearest training videos, (V, C) shares, and the classes of the test videos, (V,)."""
    fit, fit_labels = train.of_videos()
    judged, labels = test.of_videos()
    classifier = _knn(min(neighbors, len(fit))).fit(*_arrays(fit, fit_labels))
    scores = torch.zeros(len(judged), num_classes)
    votes = torch.from_numpy(classifier.predict_proba(judged.double().numpy())).float()
    scores[:, torch.from_numpy(classifier.classes_)] = votes
    return scores, labels
