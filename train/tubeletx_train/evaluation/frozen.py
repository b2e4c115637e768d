"""What frozen features are worth: a linear classifier, nearest neighbours, retrieval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.optim.lr_scheduler import MultiStepLR

from tubeletx_train.config.labelled import FrozenProbeConfig
from tubeletx_train.evaluation.inference import by_video

_GAMMA = 0.3
_INITIAL_STD = 0.01


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
    """Votes of the nearest training videos by cosine, (V, C) shares, and the classes of the test videos, (V,)."""
    fit, fit_labels = train.of_videos()
    judged, labels = test.of_videos()
    classifier = KNeighborsClassifier(min(neighbors, len(fit)), metric="cosine").fit(fit.numpy(), fit_labels.numpy())
    scores = torch.zeros(len(judged), num_classes)
    votes = torch.from_numpy(classifier.predict_proba(judged.numpy())).float()
    scores[:, torch.from_numpy(classifier.classes_)] = votes
    return scores, labels
