import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.interpolate_keyframes import interpolate_keyframes as reference
from tubeletx.ops.interpolate_keyframes import interpolate_keyframes


def draw(seed, rows, keys, axes, num_frames):
    generator = np.random.default_rng(seed)
    frames = np.sort(generator.integers(-3, num_frames + 3, (rows, keys)), axis=1)
    values = generator.normal(0, 50, (rows, keys, axes)).astype(np.float32)
    easing = generator.integers(0, 3, (rows, keys - 1)).astype(np.int32)
    return frames, values, easing


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(0, 5),
    keys=st.integers(1, 6),
    axes=st.integers(0, 3),
    num_frames=st.integers(1, 33),
    frame_dtype=st.sampled_from([torch.int32, torch.int64]),
    eased=st.booleans(),
)
def test_equals_the_reference(seed, rows, keys, axes, num_frames, frame_dtype, eased):
    frames, values, easing = draw(seed, rows, keys, axes, num_frames)
    result = interpolate_keyframes(
        torch.tensor(frames, dtype=frame_dtype),
        torch.tensor(values),
        torch.tensor(easing) if eased else None,
        num_frames=num_frames,
    )
    expected = reference(frames, values, easing if eased else None, num_frames)
    assert result.shape == (rows, num_frames, axes)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6, atol=2e-5)


def test_linear_equals_numpy_interp():
    generator = np.random.default_rng(0)
    frames = np.array([0, 3, 4, 11, 15])
    values = generator.uniform(0, 112, (5, 1)).astype(np.float32)
    result = interpolate_keyframes(torch.tensor(frames)[None], torch.tensor(values)[None], num_frames=16)
    np.testing.assert_allclose(result[0, :, 0], np.interp(np.arange(16), frames, values[:, 0]), rtol=1e-6)


def test_keyframes_are_hit_exactly_and_ends_are_clamped():
    frames, values, easing = torch.tensor([[2, 7, 9]]), torch.tensor([[[0.1], [1 / 3], [1e-7]]]), torch.tensor([[1, 2]])
    result = interpolate_keyframes(frames, values, easing.int(), num_frames=12)[0, :, 0]
    assert result[[2, 7, 9]].tolist() == values[0, :, 0].tolist()
    assert (result[:2] == result[2]).all()
    assert (result[10:] == result[9]).all()


def test_of_coinciding_keyframes_the_later_one_wins():
    values = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
    result = interpolate_keyframes(torch.tensor([[0, 0, 4, 4]]), values, num_frames=6)[0, :, 0]
    assert result.tolist() == [2.0, 2.25, 2.5, 2.75, 4.0, 4.0]


def test_easings_start_and_end_at_rest():
    values = torch.tensor([[[0.0], [1.0]]]).repeat(2, 1, 1)
    easing = torch.tensor([[1], [2]], dtype=torch.int32)
    result = interpolate_keyframes(torch.tensor([[0, 100]]).repeat(2, 1), values, easing, num_frames=101)[..., 0]
    speed = result.diff(dim=1) * 100
    torch.testing.assert_close(speed[0], torch.linspace(0.01, 1.99, 100), rtol=0, atol=1e-3)
    torch.testing.assert_close(speed[1], speed[0].flip(0), rtol=0, atol=1e-3)


def test_infinite_neighbours_do_not_spoil_the_keyframes():
    values = torch.tensor([[[1.0], [torch.inf]]])
    assert interpolate_keyframes(torch.tensor([[0, 3]]), values, num_frames=4)[0, [0, 3], 0].tolist() == [1, torch.inf]


def test_strided_arguments():
    frames, values, easing = draw(0, 6, 4, 3, 20)
    plain = interpolate_keyframes(*map(torch.tensor, (frames, values, easing)), num_frames=20)
    strided = interpolate_keyframes(
        torch.tensor(frames.T).T, torch.tensor(values.transpose(2, 1, 0)).permute(2, 1, 0), torch.tensor(easing.T).T,
        num_frames=20,
    )  # fmt: skip
    assert torch.equal(plain, strided)


def test_threads_make_no_difference():
    frames, values, easing = map(torch.tensor, draw(0, 500, 4, 2, 20))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(interpolate_keyframes(frames, values, easing, num_frames=20))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


FRAMES, VALUES, EASING = torch.tensor([[0, 3]]), torch.zeros(1, 2, 2), torch.zeros(1, 1, dtype=torch.int32)


@pytest.mark.parametrize(
    ("arguments", "num_frames", "message"),
    [
        ((FRAMES[0], VALUES, None), 4, "frames"),
        ((FRAMES.float(), VALUES, None), 4, "frames"),
        ((FRAMES[:, :0], VALUES[:, :0], None), 4, "frames"),
        ((FRAMES.flip(1), VALUES, None), 4, "frames"),
        ((FRAMES, VALUES[:, :1], None), 4, "values"),
        ((FRAMES, VALUES.double(), None), 4, "values"),
        ((FRAMES, VALUES, EASING[:, :0]), 4, "easing"),
        ((FRAMES, VALUES, EASING.long()), 4, "easing"),
        ((FRAMES, VALUES, EASING + 3), 4, "easing"),
        ((FRAMES, VALUES, EASING - 1), 4, "easing"),
        ((FRAMES, VALUES, None), 0, "num_frames"),
        ((FRAMES, VALUES, None), -1, "num_frames"),
    ],
)
def test_refuses(arguments, num_frames, message):
    with pytest.raises(ValueError, match=rf"^{message}: "):
        interpolate_keyframes(*arguments, num_frames=num_frames)


def test_opcheck():
    torch.library.opcheck(torch.ops.tubeletx.interpolate_keyframes.default, (FRAMES, VALUES, EASING, 5))
    torch.library.opcheck(torch.ops.tubeletx.interpolate_keyframes.default, (FRAMES[:0], VALUES[:0], None, 5))


def test_compiles_without_breaks():
    compiled = torch.compile(interpolate_keyframes, fullgraph=True, backend="aot_eager")
    frames, values, easing = map(torch.tensor, draw(1, 3, 4, 2, 9))
    expected = interpolate_keyframes(frames, values, easing, num_frames=9)
    assert torch.equal(compiled(frames, values, easing, num_frames=9), expected)
