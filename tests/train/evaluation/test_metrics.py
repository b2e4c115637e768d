import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, top_k_accuracy_score
from sklearn.neighbors import NearestNeighbors

from tubeletx_train.config.labelled import FrozenProbeConfig
from tubeletx_train.evaluation.embed import by_video
from tubeletx_train.evaluation.metrics import multilabel_metrics, recognition_metrics, retrieval_metrics
from tubeletx_train.evaluation.readout import LabelledFeatures, linear_logits, nearest_neighbor_scores


@pytest.mark.parametrize(("videos", "classes", "seed"), [(50, 7, 0), (3, 4, 1), (200, 2, 2), (1, 3, 3)])
def test_recognition_against_scikit_learn(videos, classes, seed):
    rng = np.random.default_rng(seed)
    scores = rng.random((videos, classes))
    targets = rng.integers(0, classes, videos)
    metrics = recognition_metrics(torch.tensor(scores), torch.tensor(targets))
    labels = np.arange(classes)
    assert ("top5" in metrics) == (classes > 5)  # else it is always right
    for name, k in (("top1", 1), ("top5", 5)):
        if k >= classes:
            continue
        expected = np.mean([target in np.argsort(-row)[:k] for row, target in zip(scores, targets, strict=True)])
        assert metrics[name] == pytest.approx(expected)
        if classes > 2:
            assert metrics[name] == pytest.approx(top_k_accuracy_score(targets, scores, k=k, labels=labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # scikit-learn warns of predicted classes without a video
        assert metrics["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(targets, scores.argmax(1)))


def test_absent_classes_count_as_zero_in_the_released_protocol_only():
    scores = torch.eye(5)[torch.tensor([0, 1, 2, 4])]  # the last is wrong, class 4 has no video
    targets = torch.tensor([0, 1, 2, 3])
    assert recognition_metrics(scores, targets)["mean_class_accuracy"] == pytest.approx(3 / 4)
    released = recognition_metrics(scores, targets, absent_as_zero=True)
    assert released["mean_class_accuracy"] == pytest.approx(3 / 5)
    assert released["top1"] == pytest.approx(3 / 4)


def test_a_single_class_is_always_right():
    metrics = recognition_metrics(torch.ones(4, 1), torch.zeros(4, dtype=torch.int64))
    assert metrics == {"top1": 1.0, "mean_class_accuracy": 1.0}


def test_average_precision_leaves_out_classes_without_a_positive():
    rng = np.random.default_rng(0)
    scores, targets = rng.random((40, 6)), rng.integers(0, 2, (40, 6))
    targets[:, 2] = 0
    expected = np.mean([average_precision_score(targets[:, c], scores[:, c]) for c in (0, 1, 3, 4, 5)])
    assert multilabel_metrics(torch.tensor(scores), torch.tensor(targets))["map"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="not one class"):
        multilabel_metrics(torch.tensor(scores), torch.zeros(40, 6))


@pytest.mark.parametrize("gallery_size", [80, 30])
def test_retrieval_against_scikit_learn(gallery_size, monkeypatch):
    monkeypatch.setattr("tubeletx_train.evaluation.metrics._QUERIES_AT_ONCE", 7)
    rng = np.random.default_rng(1)
    query, gallery = rng.standard_normal((20, 5)), rng.standard_normal((gallery_size, 5))
    query_labels, gallery_labels = rng.integers(0, 9, 20), rng.integers(0, 9, gallery_size)
    metrics = retrieval_metrics(*map(torch.tensor, (query, query_labels, gallery, gallery_labels)))
    sizes = [k for k in (1, 5, 10, 20, 50) if k < gallery_size]  # the whole gallery is always right
    assert list(metrics) == [f"r@{k}" for k in sizes]
    for k in sizes:
        search = NearestNeighbors(n_neighbors=min(k, gallery_size), metric="cosine").fit(gallery)
        found = gallery_labels[search.kneighbors(query, return_distance=False)]
        assert metrics[f"r@{k}"] == pytest.approx((found == query_labels[:, None]).any(1).mean())


def test_views_are_brought_together_by_video():
    values = torch.tensor([[1.0, -4.0], [3.0, -2.0], [9.0, 9.0], [5.0, -6.0]])
    places = torch.tensor([7, 7, 2, 7])
    mean, videos = by_video(values, places, "mean")
    assert videos.tolist() == [2, 7]
    assert mean.tolist() == [[9, 9], [3, -4]]
    assert by_video(values, places, "amax")[0].tolist() == [[9, 9], [5, -2]]  # not 0, which is no view's


def blobs(seed, per_class=30, classes=4, spread=0.3):
    """Features of two views of each video, about one centre for each class; class 3 is missing."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((classes, 6)) * 2
    labels = np.repeat(np.arange(classes - 1), 2 * per_class)
    values = centers[labels] + spread * rng.standard_normal((len(labels), 6))
    places = np.arange(len(labels)) // 2
    return LabelledFeatures(torch.tensor(values, dtype=torch.float32), torch.tensor(places), torch.tensor(labels))


def test_linear_classifier_separates_blobs_and_not_noise():
    train, test = blobs(0), blobs(1)
    logits = linear_logits(train, test, 5, FrozenProbeConfig(epochs=5, batch_size=16), seed=0)
    assert logits.shape == (180, 5)
    assert (logits.argmax(1) == test.labels).float().mean() > 0.97
    assert torch.equal(logits, linear_logits(train, test, 5, FrozenProbeConfig(epochs=5, batch_size=16), seed=0))
    noise = LabelledFeatures(
        torch.randn(180, 6, generator=torch.Generator().manual_seed(0)), train.places, train.labels
    )
    blind = linear_logits(noise, test, 5, FrozenProbeConfig(epochs=5, batch_size=16), seed=0)
    assert (blind.argmax(1) == test.labels).float().mean() < 0.7


def test_a_constant_feature_does_not_break_the_linear_classifier():
    train = blobs(0)
    flat = LabelledFeatures(torch.cat([train.values, torch.ones(180, 1)], 1), train.places, train.labels)
    assert linear_logits(flat, flat, 5, FrozenProbeConfig(epochs=2), seed=0).isfinite().all()


def test_nearest_neighbours_vote():
    scores, labels = nearest_neighbor_scores(blobs(0), blobs(1), 5, neighbors=10)
    assert scores.shape == (90, 5)
    assert torch.allclose(scores.sum(1), torch.ones(90))
    assert (scores.argmax(1) == labels).float().mean() > 0.95
    few = nearest_neighbor_scores(blobs(0, per_class=1), blobs(1), 5, neighbors=10)[0]
    assert torch.allclose(few, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0, 0]).expand(90, 5))  # only three there are
