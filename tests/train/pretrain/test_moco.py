import copy

import pytest
import torch
import torch.nn.functional as F

from tubeletx_train.models import build_encoder
from tubeletx_train.pretrain.metrics import age_gap, alignment, batch_rank, top_k, uniformity
from tubeletx_train.pretrain.moco import MoCo

B, D, K = 6, 8, 32


def make(**options):
    torch.manual_seed(0)
    return MoCo(build_encoder("r2plus1d_10", 2), dim=D, queue_size=K, temperature=0.3, **options)


def clips(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, 3, 4, 16, 16, generator=generator) for _ in range(count)]


def written_out_loss(query, key, negatives, temperature):
    """Cross-entropy over [positive, negatives]; `negatives` is (B, N, D)."""
    logits = torch.cat([(query * key).sum(1, keepdim=True), (negatives @ query[:, :, None])[..., 0]], 1)
    return F.cross_entropy(logits / temperature, torch.zeros(len(query), dtype=torch.long), reduction="none")


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("batch_negatives", [False, True])
def test_loss_is_cross_entropy_over_queue_own_and_batch_negatives(own, batch_negatives):
    moco = make(momentum=0.5, batch_negatives=batch_negatives)
    with torch.no_grad():
        for parameter in moco.query_net.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    reference = copy.deepcopy(moco)
    query_clip, key_clip, own_clip = clips(3)
    output = moco(query_clip, key_clip, own_clip if own else None)

    for key_parameter, parameter in zip(reference.key_net.parameters(), reference.query_net.parameters(), strict=True):
        key_parameter.data = 0.5 * key_parameter + 0.5 * parameter.detach()
    query = reference.query_net(query_clip)
    keys = reference.key_net(torch.cat([key_clip, own_clip]) if own else key_clip)
    key = keys[:B]
    negatives = reference.contrast.queue.expand(B, K, D)
    if own:
        negatives = torch.cat([negatives, keys[B:, None]], 1)
    if batch_negatives:
        others = torch.stack([torch.cat([key[:row], key[row + 1 :]]) for row in range(B)])
        negatives = torch.cat([negatives, others], 1)
    expected = written_out_loss(query, key, negatives, 0.3)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    assert ("own_top1" in output.metrics) == own

    output.loss.mean().backward()
    expected.mean().backward()
    for (name, parameter), other in zip(
        moco.query_net.named_parameters(), reference.query_net.parameters(), strict=True
    ):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)
    assert all(parameter.grad is None for parameter in moco.key_net.parameters())


def test_key_network_averages_parameters_and_keeps_its_own_statistics():
    moco = make(momentum=0.9)
    query_clip, key_clip = clips(2)
    before = copy.deepcopy(moco.key_net.state_dict())
    with torch.no_grad():
        for parameter in moco.query_net.parameters():
            parameter.add_(1.0)
    moco(query_clip, key_clip)
    query_state, key_state = moco.query_net.state_dict(), moco.key_net.state_dict()
    for name, _ in moco.key_net.named_parameters():
        torch.testing.assert_close(key_state[name], 0.9 * before[name] + 0.1 * query_state[name])
    assert not torch.equal(key_state["encoder.stem.1.running_mean"], query_state["encoder.stem.1.running_mean"])
    assert key_state["encoder.stem.1.num_batches_tracked"] == 1


def test_keys_enter_the_queue_in_training_only():
    moco = make()
    query_clip, key_clip = clips(2)
    before = moco.contrast.queue.clone()
    moco.eval()
    moco(query_clip, key_clip)
    assert torch.equal(moco.contrast.queue, before)
    moco.train()
    moco(query_clip, key_clip)
    changed = (moco.contrast.queue != before).any(1)
    assert changed.nonzero()[:, 0].tolist() == list(range(B))
    torch.testing.assert_close(moco.contrast.queue.norm(dim=1), torch.ones(K))


def test_parts_of_a_batch_meet_the_same_queue():
    """With fixed statistics and no batch negatives, the parts of a batch are the batch."""
    whole, parted = make(momentum=0.5).eval(), make(momentum=0.5).eval()
    query_clip, key_clip, own_clip = clips(3)
    expected = whole(query_clip, key_clip, own_clip)
    parted.update_key_net()
    split = (clip.chunk(3) for clip in (query_clip, key_clip, own_clip))
    parts = [parted.compare(*part) for part in zip(*split, strict=True)]
    torch.testing.assert_close(torch.cat([part.loss for part in parts]), expected.loss)
    before = parted.contrast.queue.clone()
    parted.enqueue(torch.cat([part.key for part in parts]))
    torch.testing.assert_close(parted.contrast.queue[:B], expected.key)
    assert torch.equal(parted.contrast.queue[B:], before[B:])


def test_the_query_never_meets_its_own_fresh_key_in_the_queue():
    """Enqueued before the loss, the positive would be a negative as well and no loss could fall below log 2."""
    moco = make(momentum=0.0)
    (clip,) = clips(1)
    moco.contrast.temperature = 0.01
    assert moco(clip, clip).loss.max() < 0.1


def test_metrics_against_plain_loops():
    generator = torch.Generator().manual_seed(0)
    query, key = (F.normalize(torch.randn(7, 5, generator=generator), dim=1) for _ in range(2))
    squared = [(a - b).square().sum().item() for a, b in zip(query, key, strict=True)]
    assert alignment(query, key).item() == pytest.approx(sum(squared) / 7, rel=1e-5)
    pairs = [(query[i] - query[j]).square().sum() for i in range(7) for j in range(i)]
    assert uniformity(query).item() == pytest.approx(torch.stack(pairs).mul(-2).exp().mean().log().item(), rel=1e-5)
    assert uniformity(query[:1]).item() == 0
    ranks = [sum((query[i] @ key[j] > query[i] @ key[i]).item() for j in range(7)) for i in range(7)]
    assert batch_rank(query, key).tolist() == ranks
    assert batch_rank(query[3:], key, first=3).tolist() == ranks[3:]
    collapsed = query[:1].expand(7, 5)
    assert batch_rank(collapsed, collapsed).tolist() == [6] * 7  # the same point for all clips finds none of them
    assert top_k(torch.tensor([0, 1, 4, 5]), 1).item() == 0.25
    assert top_k(torch.tensor([0, 1, 4, 5]), 5).item() == 0.75


def test_momentum_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"momentum: got .*, needs one in"):
        make(momentum=1.5)


@pytest.mark.parametrize(("count", "first"), [(1, 0), (4, 0), (4, 3), (9, 2)])
def test_age_gap_is_how_much_higher_other_rows_keys_score_than_old_ones(count, first):
    generator = torch.Generator().manual_seed(count)
    keys, oldest = (torch.randn(rows, D, generator=generator) for rows in (count + first, 5))
    query = torch.randn(count, D, generator=generator)
    fresh = [
        float(query[row].double() @ keys[other].double())
        for row in range(count)
        for other in range(len(keys))
        if other != first + row
    ]
    expected = sum(fresh) / len(fresh) - float((query.double() @ oldest.double().T).mean()) if fresh else 0.0
    with torch.autocast("cpu", torch.bfloat16):
        assert float(age_gap(query, keys, oldest, first)) == pytest.approx(expected, abs=1e-5)


def test_age_gap_is_measured_where_there_is_a_queue():
    moco = make(momentum=0.5)
    output = moco(*clips(2))
    with torch.no_grad():
        query = moco.query_net(clips(2)[0])
    oldest = make().contrast.queue[:B]  # the first B slots are replaced first
    expected = age_gap(query, output.key, oldest) / 0.3
    torch.testing.assert_close(output.metrics["age_gap"], expected, rtol=1e-3, atol=1e-4)
    moco = MoCo(build_encoder("r2plus1d_10", 2), dim=D, queue_size=0, batch_negatives=True)
    assert "age_gap" not in moco(*clips(2)).metrics
