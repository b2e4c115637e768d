"""Drawing and pasting in one call, beside the operators that do it one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tubeletx import ObjectPatches, TubeletConfig, Tubelets, TubeletSampler
from tubeletx._library import cuda_operators
from tubeletx.ops import paste_objects
from tubeletx.ops.paste_objects import paste_objects_
from tubeletx.ops.sample_and_paste import sample_and_paste_

CONFIGS = {
    "paper": TubeletConfig.preset("paper"),
    "released": TubeletConfig.preset("released"),
    "smile": TubeletConfig.preset("smile"),
    "many, small, faint": TubeletConfig.preset(
        "paper", num_tubelets=7, patch_sides=(1, 9), opacity_range=(0, 1), soft_edge_probability=0.5
    ),
    "one, large": TubeletConfig.preset("paper", num_tubelets=1, patch_sides=(200, 300), motion="static"),
}
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda clip: clip.contiguous(memory_format=torch.channels_last_3d),
    "contiguous": Tensor.contiguous,
    "sliced": lambda clip: clip.repeat_interleave(2, -1)[..., ::2],
}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def drawn_clips(seed: int, count: int, *shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(256, shape, generator=generator, dtype=torch.int32).byte() for _ in range(count)]


def drawn_objects(size: int = 40) -> ObjectPatches:
    generator = np.random.default_rng(0)
    shapes = [(40, 30), (9, 61), (100, 100), (1, 1), (17, 16)]
    return ObjectPatches.from_images(
        [generator.integers(1, 256, (*shape, 4), dtype=np.uint8) for shape in shapes], size
    )


def assert_same_fields(got: tuple[Tensor, ...], tubelets: Tubelets) -> None:
    for field, (name, expected) in zip(got, tubelets.tensors().items(), strict=True):
        assert torch.equal(field, expected), name


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("batch", [1, 5])
def test_pair_equals_the_separate_operators(config: str, batch: int) -> None:
    law = CONFIGS[config]
    sampler = TubeletSampler(law, seed=3)
    for case, (layout, shape) in enumerate(
        [("channels_last", (6, 45, 67)), ("contiguous", (3, 40, 33)), ("sliced", (1, 9, 50))]
    ):
        clips = [LAYOUTS[layout](clip) for clip in drawn_clips(case, 1 + case, batch, 3, *shape)]
        ids = torch.arange(batch) * 1_000_003 - case
        frames, height, width = shape
        tubelets = sampler(ids, num_frames=frames, height=height, width=width, epoch=case)
        expected = tubelets.paste(clips, tubelets.crop(clips[0]))
        fields = sample_and_paste_(
            clips, ids, law.settings(), largest_patch=law.max_patch_size(height, width), seed=3, epoch=case
        )
        assert_same_fields(fields, tubelets)
        for got, one in zip(clips, expected, strict=True):
            assert torch.equal(got, one), layout


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_any_channels_and_ids_of_any_stride(channels: int) -> None:
    law = CONFIGS["released"]
    clips = drawn_clips(channels, 2, 3, channels, 4, 31, 37)
    ids = torch.arange(6)[::2]
    epoch = torch.tensor(7)
    tubelets = TubeletSampler(law, seed=-1)(ids, num_frames=4, height=31, width=37, epoch=7)
    expected = tubelets.paste(clips, tubelets.crop(clips[0]))
    fields = sample_and_paste_(
        clips, ids, law.settings(), largest_patch=law.max_patch_size(31, 37), seed=2**64 - 1, epoch=epoch
    )
    assert_same_fields(fields, tubelets)
    assert torch.equal(torch.stack(clips), torch.stack(expected))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("config", CONFIGS)
def test_objects_equal_the_separate_operators(config: str) -> None:
    law = CONFIGS[config]
    objects = drawn_objects()
    for case, layout in enumerate(LAYOUTS):
        clips = [LAYOUTS[layout](clip) for clip in drawn_clips(case, 1 + case, 4, 3, 5, 53, 71)]
        ids = torch.arange(4) * 977 - 2
        tubelets = TubeletSampler(law, seed=5)(ids, num_frames=5, height=53, width=71, epoch=case)
        patches, fitted = objects.draw(tubelets, ids, seed=5, epoch=case)
        expected = fitted.paste(clips, patches)
        paste_objects_(clips, ids, law.settings(), *objects.images, seed=5, epoch=case)
        for got, one in zip(clips, expected, strict=True):
            assert torch.equal(got, one), layout


def test_the_composition_of_other_devices() -> None:
    """What runs where no kernel of its own does, here with tensors on the CPU."""
    law, objects = CONFIGS["released"], drawn_objects()
    ids, settings = torch.tensor([4, -9]), law.settings()
    for epoch, tensor in ((3, None), (0, torch.tensor([3]))):
        ours, theirs = drawn_clips(1, 2, 2, 3, 4, 41, 47), drawn_clips(1, 2, 2, 3, 4, 41, 47)
        paste_objects_(ours, ids, settings, *objects.images, seed=2, epoch=3)
        paste_objects._one_after_the_other(theirs, ids, 2, epoch, settings, *objects.images, tensor)
        assert torch.equal(torch.stack(ours), torch.stack(theirs))


@pytest.mark.cuda
@pytest.mark.skipif(not (torch.cuda.is_available() and cuda_operators), reason="no GPU, or no CUDA operators")
def test_the_same_bits_on_a_gpu() -> None:
    for function, arguments in ((sample_and_paste_, pair_arguments()), (paste_objects_, object_arguments())):
        there = {
            name: [clip.cuda() for clip in value]
            if name == "clips"
            else (value.cuda() if isinstance(value, Tensor) else value)
            for name, value in arguments.items()
        }
        fields, others = function(**arguments), function(**there)
        for clip, other in zip(arguments["clips"], there["clips"], strict=True):
            assert torch.equal(clip, other.cpu())
        for field, other in zip(fields or (), others or (), strict=True):
            assert torch.equal(field, other.cpu())


def pair_arguments(**changes: Any) -> dict[str, Any]:
    law = CONFIGS["paper"]
    arguments = {
        "clips": drawn_clips(0, 2, 2, 3, 4, 20, 24),
        "sample_ids": torch.arange(2),
        "settings": law.settings(),
        "largest_patch": law.max_patch_size(20, 24),
    }
    return {**arguments, **changes}


def object_arguments(**changes: Any) -> dict[str, Any]:
    arguments = pair_arguments()
    del arguments["largest_patch"]
    texels, sizes, first_row = drawn_objects().images
    return {**arguments, "texels": texels, "sizes": sizes, "first_row": first_row, **changes}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clips", []),
        ("clips", [torch.zeros(2, 3, 4, 20, 24)]),
        ("clips", [torch.zeros(2, 3, 4, 20, dtype=torch.uint8)]),
        ("clips", [torch.zeros(2, 3, 4, 20, 24, dtype=torch.uint8)] * 2),
        ("clips", [torch.zeros(2, 3, 4, 20, 1, dtype=torch.uint8).expand(-1, -1, -1, -1, 24)]),
        ("clips", drawn_clips(0, 9, 2, 3, 4, 20, 24)),
        ("sample_ids", torch.arange(3)),
        ("sample_ids", torch.arange(2.0)),
        ("settings", [1.0]),
        ("epoch", -1),
        ("epoch", torch.tensor([1, 2])),
    ],
)
def test_errors_name_the_argument(name: str, value: Any) -> None:
    for function, arguments in ((sample_and_paste_, pair_arguments), (paste_objects_, object_arguments)):
        with pytest.raises(ValueError, match=f"^{name}: "):
            function(**arguments(**{name: value}))


def test_errors_about_objects() -> None:
    texels, sizes, first_row = drawn_objects().images
    for name, value in (
        ("texels", texels[:-1]),
        ("texels", texels.float()),
        ("sizes", sizes[:0]),
        ("sizes", sizes + 1000),
        ("sizes", sizes.long()),
        ("first_row", first_row[:1]),
        ("sizes", sizes * 0),
    ):
        with pytest.raises(ValueError, match=f"^{name}: "):
            paste_objects_(**object_arguments(**{name: value}))
    with pytest.raises(ValueError, match=r"^sizes: got .* at row -1"):
        paste_objects_(**object_arguments(first_row=torch.full_like(first_row, -1)))
    with pytest.raises(ValueError, match=r"^clips: got 4 channels, needs 3"):
        paste_objects_(**object_arguments(clips=drawn_clips(0, 1, 2, 4, 4, 20, 24)))
    with pytest.raises(TypeError, match=r"^texels: "):
        paste_objects_(**object_arguments(texels=None))


def test_empty_batches() -> None:
    clips = [torch.zeros(0, 3, 4, 20, 24, dtype=torch.uint8)]
    fields = sample_and_paste_(**pair_arguments(clips=clips, sample_ids=torch.arange(0)))
    assert fields[0].shape == (0, 2, 4, 2)
    paste_objects_(**object_arguments(clips=clips, sample_ids=torch.arange(0)))


def test_operators_are_well_formed() -> None:
    first, second = pair_arguments(), object_arguments()
    torch.library.opcheck(
        torch.ops.tubeletx.sample_and_paste_.default,
        (first["clips"], first["sample_ids"], 0, 0, first["settings"], list(first["largest_patch"])),
    )
    torch.library.opcheck(
        torch.ops.tubeletx.paste_objects_.default,
        (second["clips"], second["sample_ids"], 0, 0, second["settings"], *drawn_objects().images),
    )


def test_compiles_whole() -> None:
    def step(clips: list[Tensor], ids: Tensor) -> Tensor:
        fields = sample_and_paste_(clips, ids, settings, largest_patch=largest)
        paste_objects_(clips, ids, settings, *images)
        return fields[0] + clips[0].sum()

    arguments = pair_arguments()
    settings, largest, images = arguments["settings"], arguments["largest_patch"], drawn_objects().images
    ours, theirs = (drawn_clips(0, 2, 2, 3, 4, 20, 24) for _ in range(2))
    expected = step(ours, arguments["sample_ids"])
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(theirs, arguments["sample_ids"]), expected)
    assert torch.equal(torch.stack(ours), torch.stack(theirs))
