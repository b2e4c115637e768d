"""What holds for all operators alike: checks while tracing, errors that name the argument, versions, derivatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad

from tubeletx import AugmentConfig, TubeletConfig, TubeletSampler, ops
from tubeletx._library import operator


@dataclasses.dataclass
class Call:
    """An operator with arguments that it takes."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    written: tuple[str, ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """The first tensor of each argument that has some."""
        first = {name: value[0] if isinstance(value, list) else value for name, value in self.arguments.items()}
        return {name: value for name, value in first.items() if isinstance(value, Tensor)}

    def with_tensor(self, name: str, tensor: Any) -> Call:
        old = self.arguments[name]
        new = [tensor, *old[1:]] if isinstance(old, list) and name != "settings" else tensor
        return dataclasses.replace(self, arguments={**self.arguments, name: new})

    def each(self, function: Callable[[Tensor], Tensor]) -> Call:
        def convert(value: Any) -> Any:
            if isinstance(value, list):
                return [convert(item) for item in value]
            return function(value) if isinstance(value, Tensor) else value

        return dataclasses.replace(self, arguments={name: convert(value) for name, value in self.arguments.items()})

    def __call__(self) -> Any:
        return self.function(**self.arguments)


def calls() -> dict[str, Call]:
    generator = torch.Generator().manual_seed(0)

    def floats(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    frame, box = torch.tensor([[1, 0], [2, 1]], dtype=torch.int32), torch.tensor([0, 1, 4, 5], dtype=torch.int32)
    paste = {
        "clips": [floats(2, 3, 4, 9, 10), floats(2, 3, 4, 9, 10)],
        "patches": floats(2, 2, 3, 5, 6),
        "patch_size": torch.full((2, 2, 2), 5, dtype=torch.int32),
        "centers": 8 * floats(2, 2, 4, 2),
        "linear": torch.eye(2).expand(2, 2, 4, 2, 2).contiguous(),
        "shape": torch.ones(2, 2, dtype=torch.int32),
        "edge": floats(2, 2),
        "opacity": floats(2, 2, 4),
        "order": torch.arange(2, dtype=torch.int32).expand(2, 2).contiguous(),
        "offsets": floats(2, 2, 2, 2),
    }
    sampled = {
        "clips": [(255 * clip).byte() for clip in paste["clips"]],
        "sample_ids": torch.arange(2),
        "settings": TubeletConfig.preset("released").settings(),
    }
    objects = {
        "texels": (255 * floats(2 * 6 + 4, 4 * 4)).byte(),
        "sizes": torch.tensor([[[4, 3], [2, 2]], [[1, 4], [1, 2]]], dtype=torch.int32),
        "first_row": torch.tensor([0, 4]),
    }
    return {
        "interpolate_keyframes": Call(
            ops.interpolate_keyframes,
            {
                "frames": torch.tensor([[0, 2, 5]]),
                "values": floats(1, 3, 2),
                "easing": torch.zeros(1, 2, dtype=torch.int32),
                "num_frames": 6,
            },
        ),
        "smooth_path": Call(
            ops.smooth_path,
            {"points": floats(2, 7, 2), "sigma": 1.5, "extent": floats(2, 2), "offset": floats(2, 2), "num_frames": 4},
        ),
        "sample_tubelets": Call(
            ops.sample_tubelets,
            {
                "sample_ids": torch.arange(3),
                "settings": TubeletConfig().settings(),
                "num_frames": 4,
                "height": 30,
                "width": 40,
                "epoch": torch.tensor(2),
            },
        ),
        "sample_augmentation": Call(
            ops.sample_augmentation,
            {
                "sample_ids": torch.arange(3),
                "sizes": (30, 40, 20, 50),
                "settings": AugmentConfig().settings(),
                "epoch": torch.tensor(2),
            },
        ),
        "augment_clips_": Call(
            ops.augment_clips_,
            {
                "outputs": [floats(2, 4, 5, 6, 3).permute(0, 4, 1, 2, 3)],
                "clips": [sampled["clips"][0].clone()],
                "windows": torch.tensor([0, 1, 8, 9], dtype=torch.int32).expand(2, 1, 4).contiguous(),
                "flips": torch.tensor([[True], [False]]),
                "color": floats(2, 1, 4),
                "normalization": (0.4, 0.4, 0.4, 0.2, 0.2, 0.2),
                "tubelets": list(TubeletSampler()(torch.arange(2), num_frames=4, height=5, width=6).tensors().values()),
                "largest_patch": (5, 6),
            },
            ("outputs",),
        ),
        "crop_patches": Call(
            ops.crop_patches,
            {
                "clip": floats(2, 3, 4, 9, 10),
                "patch_frame": frame,
                "patch_box": box.expand(2, 2, 4).contiguous(),
                "size": (5, 6),
            },
        ),
        "paste_tubelets": Call(ops.paste_tubelets, paste),
        "paste_tubelets_": Call(
            ops.paste_tubelets_, {**paste, "clips": [c.clone() for c in paste["clips"]]}, ("clips",)
        ),
        "sample_and_paste_": Call(ops.sample_and_paste_, {**sampled, "largest_patch": (9, 10)}, ("clips",)),
        "paste_objects_": Call(
            ops.paste_objects_, {**sampled, **objects, "clips": [c.clone() for c in sampled["clips"]]}, ("clips",)
        ),
        "draw_leaves": Call(
            ops.draw_leaves,
            {"sample_ids": torch.arange(3), "num_frames": 2, "height": 7, "width": 9, "epoch": torch.tensor(2)},
        ),
        "track_points": Call(
            ops.track_points,
            {
                "points": 8 * floats(2, 5, 2),
                "point_frame": torch.ones(2, 5, dtype=torch.int32),
                "frames": torch.arange(3, dtype=torch.int32).expand(2, 5, 3).contiguous(),
                **{name: paste[name] for name in paste if name not in ("clips", "patches", "offsets")},
                "height": 9,
                "width": 10,
            },
        ),
        "queue_infonce": Call(
            ops.queue_infonce,
            {
                "query": floats(4, 8),
                "key": floats(4, 8),
                "queue": floats(9, 8),
                "temperature": 0.2,
                "own_negatives": floats(4, 2, 8),
            },
        ),
        "enqueue_": Call(
            ops.enqueue_,
            {"queue": floats(5, 8), "pointer": torch.tensor(2), "keys": floats(3, 8)},
            ("queue", "pointer"),
        ),
    }


PLACES = [(name, argument) for name, call in calls().items() for argument in call.tensors()]
OPTIONAL = ("easing", "extent", "offset", "offsets", "own_negatives", "windows", "flips", "color")
# Those that draw from ids alone: the epoch may lie in the host's memory, wherever the ids do.
SAMPLERS = ("sample_tubelets", "sample_augmentation", "draw_leaves")
TOGETHER = [place for place in PLACES if place[0] not in SAMPLERS]
# The gradient of keys stops in the queue, as is documented.
DIFFERENTIABLE = [
    (name, argument)
    for name, argument in PLACES
    if name != "enqueue_" and calls()[name].tensors()[argument].is_floating_point()
]
GRADIENTS = [
    ("crop_patches", "clip"),
    ("paste_tubelets", "clips"),
    ("paste_tubelets", "patches"),
    ("queue_infonce", "query"),
    ("queue_infonce", "key"),
]


def shapes(result: Any) -> Any:
    if isinstance(result, list | tuple):
        return [shapes(item) for item in result]
    return None if result is None else (tuple(result.shape), result.dtype, result.stride())


def test_no_operator_is_missing() -> None:
    assert set(calls()) == set(ops.__all__)


@pytest.mark.parametrize("name", ops.__all__)
def test_fake_kernels_give_the_shapes_of_the_real_ones(name: str) -> None:
    expected = shapes(calls()[name]())
    assert shapes(calls()[name].each(lambda tensor: tensor.to("meta"))()) == expected
    with FakeTensorMode() as mode:
        assert shapes(calls()[name].each(mode.from_tensor)()) == expected


@pytest.mark.parametrize(("name", "argument"), TOGETHER)
def test_one_argument_on_meta_is_refused(name: str, argument: str) -> None:
    """The fake kernel runs for the mixture; without a check it would return memory that was never written."""
    call = calls()[name]
    with pytest.raises(ValueError, match=r"^\w+: is on (meta|cpu), not on the device of \w+, (cpu|meta); move it"):
        call.with_tensor(argument, call.tensors()[argument].to("meta"))()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_epoch_lies_with_the_ids_or_on_the_cpu(name: str) -> None:
    call = calls()[name]
    expected = shapes(call())
    assert shapes(call.with_tensor("sample_ids", torch.arange(3, device="meta"))()) == expected
    with pytest.raises(ValueError, match=r"^epoch: is on meta, not on the device of sample_ids, cpu"):
        calls()[name].with_tensor("epoch", torch.tensor(2, device="meta"))()


@pytest.mark.parametrize("traced", [False, True], ids=["real", "fake"])
@pytest.mark.parametrize(("name", "argument"), PLACES)
def test_wrong_shapes_and_dtypes_are_refused_by_name(name: str, argument: str, traced: bool) -> None:
    call = calls()[name]
    tensor = call.tensors()[argument]
    for wrong in (tensor.to(torch.complex64), tensor.new_ones((2, 1, 1, 1, 1, 1, 1)), tensor.new_ones((3,) * 5)):
        spoiled = call.with_tensor(argument, wrong)
        with FakeTensorMode() as mode:
            if traced:
                spoiled = spoiled.each(mode.from_tensor)
        with mode if traced else torch.no_grad(), pytest.raises(ValueError, match=r"^(\w+): .*(needs|takes) "):
            spoiled()


@pytest.mark.parametrize(("name", "argument"), PLACES)
def test_what_is_no_tensor_is_refused_by_name(name: str, argument: str) -> None:
    values = [[[1.0, 2.0]], np.ones((2, 3), np.float32), "text", *([] if argument in OPTIONAL else [None])]
    for value in values:
        with pytest.raises(TypeError, match=rf"^{argument}: got .*, needs (a tensor|an integer)"):
            calls()[name].with_tensor(argument, value)()


@pytest.mark.parametrize(("name", "argument"), DIFFERENTIABLE)
def test_forward_mode_is_refused(name: str, argument: str) -> None:
    """The operators would go on with a tangent of zero."""
    call = calls()[name]
    tensor = call.tensors()[argument]
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match=f"^{argument}: carries a forward-mode"):
        call.with_tensor(argument, forward_ad.make_dual(tensor, torch.ones_like(tensor)))()


@pytest.mark.parametrize(("name", "argument"), DIFFERENTIABLE)
def test_a_gradient_is_given_or_refused(name: str, argument: str) -> None:
    call = calls()[name]
    tensor = call.tensors()[argument].requires_grad_()
    if (name, argument) not in GRADIENTS:
        with pytest.raises(ValueError, match=f"^{argument}: requires a gradient"):
            call()
        with torch.no_grad():
            call()
        return
    result = call()
    total = (result[0] if isinstance(result, list | tuple) else result).sum()
    (gradient,) = torch.autograd.grad(total, tensor)
    assert gradient.abs().sum() > 0


WRITTEN = [(name, argument) for name, call in calls().items() for argument in call.written]


@pytest.mark.parametrize(("name", "argument"), GRADIENTS)
@pytest.mark.parametrize(
    "transform", [torch.func.grad, torch.func.jacrev, torch.func.hessian], ids=lambda f: f.__name__
)
def test_transforms_of_torch_func_are_refused_by_name(transform: Callable[..., Any], name: str, argument: str) -> None:
    call = calls()[name]

    def total(tensor: Tensor) -> Tensor:
        result = call.with_tensor(argument, tensor)()
        return (result[0] if isinstance(result, list | tuple) else result).float().sum()

    with pytest.raises(NotImplementedError, match=f"^{argument}: "):
        transform(total)(call.tensors()[argument])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("name", "argument"), WRITTEN)
def test_writing_counts_a_version(name: str, argument: str, compiled: bool) -> None:
    """As `copy_` does: what was saved for a gradient and then overwritten is noticed."""
    call = calls()[name]
    function = torch.compile(call.function, fullgraph=True, backend="aot_eager") if compiled else call.function
    target = call.tensors()[argument]
    factor = torch.ones(target.shape, requires_grad=True)
    output = factor * target
    before = target._version
    function(**call.arguments)
    assert target._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize(
    ("name", "argument"), [place for place in WRITTEN if place in DIFFERENTIABLE or place[1] == "queue"]
)
def test_the_bare_operator_refuses_what_requires_a_gradient(name: str, argument: str) -> None:
    bare = operator(name)
    for make in (lambda tensor: tensor.requires_grad_(), lambda tensor: tensor.requires_grad_() * 1):
        call = calls()[name]
        before = call.tensors()[argument].clone()
        target = make(call.tensors()[argument])
        with pytest.raises(ValueError, match=f"^{argument}: "):
            bare(*call.with_tensor(argument, target).arguments.values())
        assert torch.equal(target.detach(), before)


def test_inference_tensors_are_written_in_inference_mode_alone() -> None:
    for name in ("paste_tubelets_", "enqueue_"):
        with torch.inference_mode():
            call = calls()[name]
            call()
        with pytest.raises(ValueError, match=r"^\w+: got a tensor that must not be written"):
            call()
