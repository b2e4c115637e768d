from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ops.test_queue_infonce import draw, strided
from reference.queue_infonce_backward import queue_infonce_backward as reference
from tubeletx._library import operator

OPERATOR = torch.ops.tubeletx.queue_infonce_backward.default
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SIZES = [(0, 8), (1, 1), (5, 7), (33, 128), (3, 515)]


def draw_arguments(batch: int, dim: int, dtype: torch.dtype) -> list[Tensor]:
    """gradient, query, key, loss, negative_mean"""
    real = torch.promote_types(dtype, torch.float32)
    vectors = draw(0, batch, unit=False).to(real), draw(1, batch, unit=False).abs().to(real)
    query, key, mean = (draw(seed, batch, dim) for seed in (2, 3, 4))
    return [vectors[0], query.to(dtype), key.to(dtype), vectors[1], mean.to(real)]


def assert_matches(operator: Callable[..., tuple[Tensor, Tensor]], arguments: list[Tensor]) -> None:
    expected = reference(*arguments, 0.2)
    gradients = operator(*arguments, 0.2, True, True)
    dtype = arguments[1].dtype
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert gradient.dtype == dtype
        # Half a unit in the last place of the result, and a few roundings on the way there.
        rounding = torch.finfo(dtype).eps / 2 * wanted.abs() + torch.finfo(dtype).tiny
        torch.testing.assert_close(
            gradient.double(), wanted, rtol=0, atol=rounding.max().item() * 1.01 + 1e-6 if wanted.numel() else 0
        )
    for place, needs in enumerate([(True, False), (False, True)]):
        some = operator(*arguments, 0.2, *needs)
        assert some[place].equal(gradients[place])
        assert some[1 - place].shape == (0, arguments[1].shape[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_reference(sizes: tuple[int, int], dtype: torch.dtype) -> None:
    assert_matches(OPERATOR, draw_arguments(*sizes, dtype))


def test_float64_is_computed_in_float64() -> None:
    arguments = draw_arguments(6, 20, torch.float64)
    for gradient, wanted in zip(OPERATOR(*arguments, 0.2, True, True), reference(*arguments, 0.2), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-13, atol=1e-15)


def assert_any_strides(operator: Callable[..., tuple[Tensor, Tensor]]) -> None:
    plain = draw_arguments(6, 20, torch.bfloat16)
    expected = operator(*plain, 0.2, True, True)
    for place, tensor in enumerate(plain):
        others = strided(tensor) if tensor.dim() == 2 else [torch.stack([tensor, tensor], dim=1)[:, 0]]
        for other in others:
            gradients = operator(*plain[:place], other, *plain[place + 1 :], 0.2, True, True)
            assert all(map(torch.equal, gradients, expected))
    same = plain[0][:1].expand(6)
    assert_matches(operator, [same, *plain[1:]])


def test_any_strides() -> None:
    assert_any_strides(OPERATOR)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    torch.library.opcheck(OPERATOR, (*draw_arguments(4, 8, dtype), 0.2, True, False))


def test_malformed_calls_name_the_argument() -> None:
    names = ("gradient", "query", "key", "loss", "negative_mean")
    call = operator("queue_infonce_backward")
    for place, name in enumerate(names):
        for spoil in (lambda x: x[:-1], lambda x: x[None], lambda x: x.long(), lambda x: x.double()):
            arguments = draw_arguments(4, 8, torch.float32)
            arguments[place] = spoil(arguments[place])
            culprits = "|".join(names) if name == "query" else name
            with pytest.raises(ValueError, match=rf"^({culprits}): got "):
                call(*arguments, 0.2, True, True)
    with pytest.raises(ValueError, match=r"^query: got .* at least one feature"):
        call(*draw_arguments(4, 0, torch.float32), 0.2, True, True)
