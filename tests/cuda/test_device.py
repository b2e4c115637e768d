"""What only a GPU shows: streams, graphs, other devices, compilation, gradients, sizes past 2^31."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ops.test_every_operator import WRITTEN, calls
from ops.test_paste_tubelets import Case, clip_channels_last
from ops.test_paste_tubelets import draw as draw_paste
from tubeletx.config import TubeletConfig
from tubeletx.ops.crop_patches import crop_patches
from tubeletx.ops.interpolate_keyframes import interpolate_keyframes
from tubeletx.ops.paste_tubelets import paste_tubelets, paste_tubelets_
from tubeletx.ops.sample_tubelets import sample_tubelets
from tubeletx.ops.smooth_path import smooth_path
from tubeletx.pair import TubeletPair

pytestmark = pytest.mark.cuda
SIDE, FRAMES = 112, 16

Outputs = tuple[Tensor, ...]


def on(case: Case, device: str) -> Case:
    fields = {
        name: [clip.to(device) for clip in value] if name == "clips" else value.to(device)
        for name, value in vars(case).items()
        if value is not None
    }
    return replace(case, **fields)


def operators(device: str) -> dict[str, Callable[[], Outputs]]:
    """Every operator of this file on fixed arguments of a device, by name; not in place."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(5, device=device)
    settings = TubeletConfig(num_tubelets=3).settings()
    frames = torch.tensor([[0, 3, 9], [1, 1, 4]], device=device)
    values = torch.rand(2, 3, 2, generator=generator).to(device)
    points = torch.rand(4, 48, 2, generator=generator).to(device)
    extent = torch.full((4,), 50.0, device=device)
    case = on(draw_paste(1, torch.uint8, alpha=True), device)
    clip = case.clips[0]
    frame = torch.tensor([[0, 2, 1]] * len(clip), dtype=torch.int32, device=device)
    box = torch.tensor([[[0, 0, 9, 9], [3, 4, 12, 20], [30, 20, 37, 29]]] * len(clip), dtype=torch.int32, device=device)
    return {
        "interpolate_keyframes": lambda: (interpolate_keyframes(frames, values, num_frames=11),),
        "smooth_path": lambda: (smooth_path(points, 6.0, extent, num_frames=16),),
        "sample_tubelets": lambda: sample_tubelets(ids, settings, num_frames=FRAMES, height=SIDE, width=SIDE),
        "crop_patches": lambda: (crop_patches(clip, frame, box, (20, 20)),),
        "paste_tubelets": lambda: tuple(case.run()),
    }


NAMES = ("interpolate_keyframes", "smooth_path", "sample_tubelets", "crop_patches", "paste_tubelets")


def same(got: Outputs, expected: Outputs) -> bool:
    return len(got) == len(expected) and all(map(torch.equal, (x.cpu() for x in got), (x.cpu() for x in expected)))


@pytest.mark.parametrize("name", NAMES)
def test_is_captured_and_replayed(name: str) -> None:
    call = operators("cuda")[name]
    expected = tuple(tensor.clone() for tensor in call())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for tensor in captured:
        tensor.zero_()
    graph.replay()
    assert same(captured, expected)


def test_a_pair_is_captured_and_follows_its_inputs() -> None:
    clips = [torch.randint(0, 256, (4, 3, 8, 64, 64), dtype=torch.uint8, device="cuda") for _ in range(2)]
    ids = torch.arange(4, device="cuda")
    pair = TubeletPair(seed=1)
    pair(*clips, ids)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = pair(*clips, ids)
    clips[0].random_(0, 256)
    ids += 100
    graph.replay()
    assert same(captured[:2], TubeletPair(seed=1)(*(clip.cpu() for clip in clips), ids.cpu())[:2])


def test_a_captured_pair_follows_the_epoch() -> None:
    clips = [torch.randint(0, 256, (3, 3, 8, 40, 50), dtype=torch.uint8, device="cuda") for _ in range(2)]
    ids, epoch = torch.arange(3, device="cuda"), torch.tensor([4], device="cuda")
    pair = TubeletPair(seed=1)
    pair(*clips, ids, epoch=epoch)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        *captured, tubelets = pair(*clips, ids, epoch=epoch)
    for number in (5, 2**32 - 1):
        epoch.fill_(number)
        graph.replay()
        *expected, drawn = pair(*clips, ids, epoch=number)
        assert same(tuple(captured), tuple(expected))
        assert torch.equal(tubelets.centers, drawn.centers)


@pytest.mark.parametrize(("name", "argument"), WRITTEN)
def test_writing_counts_a_version(name: str, argument: str) -> None:
    call = calls()[name].each(Tensor.cuda)
    target = call.tensors()[argument]
    before = target._version
    call()
    assert target._version > before


@pytest.mark.parametrize("name", NAMES)
def test_waits_for_its_own_stream_only(name: str) -> None:
    """On a side stream, behind work that takes long: right only if the kernel is queued there too."""
    call = operators("cuda")[name]
    expected = call()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        slow = torch.rand(4096, 4096, device="cuda")
        for _ in range(8):
            slow = slow @ slow
        late = torch.cuda.Event()
        late.record()
        got = call()
        assert not late.query()  # nothing has waited
    stream.synchronize()
    assert same(got, expected)


@pytest.mark.parametrize("name", NAMES)
def test_on_the_second_device(name: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    got = operators("cuda:1")[name]()
    assert all(tensor.device.index == 1 for tensor in got)
    assert torch.cuda.current_device() == 0
    assert same(got, operators("cpu")[name]())


@pytest.mark.parametrize("name", NAMES)
def test_compiles_without_breaks(name: str) -> None:
    call = operators("cuda")[name]
    assert same(torch.compile(call, fullgraph=True)(), call())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_each_time(name: str) -> None:
    call = operators("cuda")[name]
    expected = call()
    assert all(same(call(), expected) for _ in range(20))


def test_in_place_equals_out_of_place_and_compiles() -> None:
    case = on(draw_paste(2, torch.uint8), "cuda")
    expected = case.run()

    def paste(clips: list[Tensor]) -> list[Tensor]:
        paste_tubelets_(clips, case.patches, *case.geometry)
        return clips

    for run in (paste, torch.compile(paste, fullgraph=True)):
        assert same(tuple(run([clip.clone() for clip in case.clips])), tuple(expected))


def test_gradients_through_autograd() -> None:
    case = draw_paste(3, torch.float32, alpha=True)
    results = []
    for place in (on(case, "cpu"), on(case, "cuda")):
        inputs = [tensor.requires_grad_() for tensor in (*place.clips, place.patches)]
        pasted = place.run()
        results.append(torch.autograd.grad(sum((clip**2).sum() for clip in pasted), inputs))
    assert same(*results)


def test_opcheck() -> None:
    case = on(draw_paste(4, torch.float32, alpha=True), "cuda")
    torch.library.opcheck(torch.ops.tubeletx.paste_tubelets.default, (case.clips, case.patches, *case.geometry))
    ids = torch.arange(3, device="cuda")
    arguments = (ids, 1, 2, 5, 20, 30, TubeletConfig().settings())
    torch.library.opcheck(torch.ops.tubeletx.sample_tubelets.default, arguments)


def test_arguments_on_two_devices_are_refused() -> None:
    case = on(draw_paste(5, torch.uint8), "cuda")
    with pytest.raises(ValueError, match=r"^linear: "):
        replace(case, linear=case.linear.cpu()).run()


def test_past_two_to_the_31_elements() -> None:
    """The last sample of a clip of 2.2 G elements: cropped and pasted as if it stood alone."""
    batch, frames, side = 22, 40, 912  # 22 * 3 * 40 * 912^2 = 2.2e9 bytes
    if torch.cuda.mem_get_info()[0] < 8 * 2**30:
        pytest.skip("needs 8 GiB of free GPU memory")
    clip = torch.zeros(batch, frames, side, side, 3, dtype=torch.uint8, device="cuda").permute(0, 4, 1, 2, 3)
    assert clip.numel() > 2**31
    case = on(draw_paste(6, torch.uint8, batch=1, clips=1, frames=frames, height=side, width=side), "cuda")
    last = clip_channels_last(case.clips[0])
    clip[-1:] = last

    def spread(tensor: Tensor) -> Tensor:
        return tensor.expand(batch, *tensor.shape[1:]).contiguous()

    geometry = [spread(tensor) for tensor in case.geometry if tensor is not None]
    (expected,) = paste_tubelets([last], case.patches, *case.geometry)
    paste_tubelets_([clip], spread(case.patches), *geometry)
    assert torch.equal(clip[-1:], expected)
    frame = torch.full((batch, 1), frames - 1, dtype=torch.int32, device="cuda")
    box = torch.tensor([side - 9, side - 9, side, side], dtype=torch.int32, device="cuda").repeat(batch, 1, 1)
    patches = crop_patches(clip, frame, box, (9, 9))
    assert torch.equal(patches[-1, 0], expected[0, :, -1, -9:, -9:])
