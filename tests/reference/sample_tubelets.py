"""The tubelet sampler in plain Python and float64, from a `TubeletConfig` instead of the flat settings."""

from __future__ import annotations

import math

import numpy as np

from reference.interpolate_keyframes import interpolate_keyframes
from reference.smooth_path import smooth_path
from tubeletx.config import TubeletConfig

DRAWS_PER_TUBELET = 1024
PATCH, PLACE, APPEARANCE, PATH, LOCATION, OPACITY, SCALE, ROTATION, SHEAR, POINTS = (0, 1, 2, 3, 4, 8, 12, 16, 20, 24)
MASK = 0xFFFFFFFF


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high_a, low_a = divmod(0xD2511F53 * c[0], 1 << 32)
        high_b, low_b = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high_b ^ c[1] ^ k[0], low_b, high_a ^ c[3] ^ k[1], low_a]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return tuple(c)


def unit(word: int) -> float:
    return (word >> 8) / (1 << 24)


def uniform(word: int, low: float, high: float) -> float:
    return low + unit(word) * (high - low)


def integer(word: int, count: int) -> int:
    return word * count >> 32 if count > 0 else 0


def choose(word: int, probabilities: tuple[float, ...]) -> int:
    return int(np.searchsorted(np.cumsum(probabilities)[:-1], unit(word), side="right"))


class Sampler:
    """Draws the tubelets of one sample."""

    def __init__(
        self, config: TubeletConfig, seed: int, sample_id: int, epoch: int, num_frames: int, height: int, width: int
    ) -> None:
        self.config = config
        self.key = (seed & MASK, seed >> 32 & MASK)
        self.counter = (sample_id & MASK, sample_id >> 32 & MASK, epoch)
        self.num_frames, self.size = num_frames, (width, height)
        self.unit = min(height, width) / config.reference_size

    def block(self, tubelet: int, index: int) -> tuple[int, ...]:
        return philox((*self.counter, tubelet * DRAWS_PER_TUBELET + index), self.key)

    def keyframes(self, tubelet: int, track: int) -> list[int]:
        words = self.block(0 if self.config.shared_keyframes else tubelet, track)
        total = self.num_frames
        if total == 1:
            return [0]
        count = min(choose(words[0], self.config.keyframe_probabilities), max(total - 2, 0))
        if self.config.keyframe_placement == "jittered":
            jitter = total // (3 * (count + 1))
            inner = [total * (i + 1) // (count + 1) + integer(words[1 + i], 2 * jitter) - jitter for i in range(count)]
        else:
            left = list(range(1, total - 1))
            inner = sorted(left.pop(integer(words[1 + i], len(left))) for i in range(count))
        return [0, *inner, total - 1]

    def easings(self, tubelet: int, track: int, count: int) -> list[int]:
        return [choose(word, self.config.easing_probabilities) for word in self.block(tubelet, track + 1)[:count]]

    def every_frame(self, frames: list[int], values: list[list[float]], easing: list[int]) -> np.ndarray:
        """Values (axes, keys) at the keyframes to (T, axes)."""
        array = np.array(values, dtype=np.float64).T
        return interpolate_keyframes(np.array([frames]), array[None], np.array([easing]), self.num_frames)[0]

    def transform(
        self, tubelet: int, track: int, axes: int, identity: float, law: tuple[float, float], rate: float
    ) -> np.ndarray:
        frames = self.keyframes(tubelet, track)
        values = []
        for axis in range(axes):
            words = self.block(tubelet, track + 2 + axis)
            value = [identity]
            for key in range(1, len(frames)):
                if not self.config.accumulate:
                    value.append(uniform(words[key], *law))
                    continue
                reach = rate * (frames[key] - frames[key - 1])
                step = uniform(words[key], -reach, reach)
                value.append(value[-1] * math.exp(step) if track == SCALE else value[-1] + step)
            values.append(value)
        if track == SHEAR:
            owner = 0 if self.config.shared_keyframes else tubelet
            kept = choose(self.block(owner, track)[3], self.config.shear_axis_probabilities)
            if kept != 0:
                values[2 - kept] = [0.0] * len(frames)
        return self.every_frame(frames, values, self.easings(tubelet, track, len(frames) - 1))

    def patch_size(self, tubelet: int) -> tuple[int, int]:
        words = self.block(tubelet, PATCH)
        config = self.config
        if not config.patch_scales:
            low, high = (max(1, math.floor(side * self.unit + 0.5)) for side in config.patch_sides)
            return tuple(
                min(low + integer(word, high - low + 1), limit)
                for word, limit in zip(words[:2], self.size, strict=True)
            )
        scale = config.patch_scales[integer(words[0], len(config.patch_scales))] * self.unit
        root = math.sqrt(config.patch_ratios[integer(words[1], len(config.patch_ratios))])
        jitter = [math.exp(uniform(word, -config.patch_jitter, config.patch_jitter)) for word in words[2:]]
        sides = (scale * root * jitter[0], scale / root * jitter[1])
        return tuple(min(max(math.floor(side + 0.5), 1), limit) for side, limit in zip(sides, self.size, strict=True))

    def centers(self, tubelet: int, patch_size: tuple[int, int]) -> np.ndarray:
        config = self.config
        if config.motion == "nonlinear":
            blocks = [self.block(tubelet, POINTS + i) for i in range((config.num_points + 1) // 2)]
            points = np.array([unit(word) for block in blocks for word in block]).reshape(-1, 2)[: config.num_points]
            points = (points * self.size)[None]
            if config.extent is None:
                return smooth_path(points, config.sigma, None, None, self.num_frames)[0]
            words = self.block(tubelet, PATH)
            extent = uniform(words[0], *(side * self.unit for side in config.extent))
            extents = [min(extent, limit) for limit in self.size]
            offset = [uniform(words[1 + axis], 0, self.size[axis] - extents[axis]) for axis in range(2)]
            return smooth_path(points, config.sigma, np.array([extents]), np.array([offset]), self.num_frames)[0]
        frames = self.keyframes(tubelet, LOCATION)
        delta = uniform(self.block(tubelet, LOCATION)[3], *config.displacement) * self.unit
        values = []
        for axis in range(2):
            words = self.block(tubelet, LOCATION + 2 + axis)
            margin = patch_size[axis] / 2 if config.inside else 0
            low, high = margin, self.size[axis] - margin
            value = [uniform(words[0], low, high)]
            for key in range(1, len(frames)):
                reach = delta
                if config.velocity is not None:
                    reach = config.velocity * self.unit * (frames[key] - frames[key - 1])
                if config.motion == "static":
                    reach = 0
                value.append(uniform(words[key], max(low, value[-1] - reach), min(high, value[-1] + reach)))
            values.append(value)
        return self.every_frame(frames, values, self.easings(tubelet, LOCATION, len(frames) - 1))

    def linear(self, tubelet: int) -> tuple[np.ndarray, float]:
        """(T, 2, 2), and the mean of the scaled area."""
        config, frames = self.config, self.num_frames
        scale, angle, shear = np.ones((frames, 2)), np.zeros(frames), np.zeros((frames, 2))
        if "scale" in config.transforms:
            scale = self.transform(tubelet, SCALE, 2, 1, config.scale_range, config.scale_rate)
        if "rotation" in config.transforms:
            degrees = self.transform(tubelet, ROTATION, 1, 0, config.rotation_range, config.rotation_rate)
            angle = np.deg2rad(degrees[:, 0])
        if "shear" in config.transforms:
            shear = self.transform(tubelet, SHEAR, 2, 0, config.shear_range, config.shear_rate)
        rotations = np.stack((np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)), -1).reshape(frames, 2, 2)
        shear_x, shear_y = np.tile(np.eye(2), (2, frames, 1, 1))
        shear_x[:, 0, 1] = shear[:, 0]
        shear_y[:, 1, 0] = shear[:, 1]
        return rotations @ shear_y @ shear_x @ (scale[:, None] * np.eye(2)), float(scale.prod(axis=1).mean())

    def tubelet(self, index: int) -> dict[str, np.ndarray]:
        config = self.config
        width, height = self.patch_size(index)
        centers = self.centers(index, (width, height))
        linear, area = self.linear(index)
        look, place = self.block(index, APPEARANCE), self.block(index, PLACE)
        soft = unit(look[1]) < config.soft_edge_probability
        frame = integer(place[2], self.num_frames)
        if config.patch_source == "own_box":
            corner = [
                min(max(math.floor(center - side / 2 + 0.5), 0), limit - side)
                for center, side, limit in zip(centers[frame], (width, height), self.size, strict=True)
            ]
        else:
            corner = [
                integer(word, limit - side + 1)
                for word, side, limit in zip(place[:2], (width, height), self.size, strict=True)
            ]
        keys = self.keyframes(index, OPACITY)
        opacities = [uniform(word, *config.opacity_range) for word in self.block(index, OPACITY + 2)[: len(keys)]]
        return {
            "centers": centers,
            "linear": linear,
            "patch_frame": np.array(frame),
            "patch_box": np.array([*corner, corner[0] + width, corner[1] + height]),
            "shape": np.array(choose(look[0], config.shape_probabilities)),
            "edge": np.array(uniform(look[2], *config.edge_range) if soft else 0.0),
            "opacity": self.every_frame(keys, [opacities], [0] * (len(keys) - 1))[:, 0],
            "area": np.array(area * width * height),
        }


def sample_tubelets(
    config: TubeletConfig,
    sample_ids: list[int],
    *,
    num_frames: int,
    height: int,
    width: int,
    seed: int = 0,
    epoch: int = 0,
) -> dict[str, np.ndarray]:
    """The fields of every sample, stacked to (B, M, ...), with the mean areas beside them."""
    samples = []
    for sample_id in sample_ids:
        sampler = Sampler(config, seed, sample_id, epoch, num_frames, height, width)
        tubelets = [sampler.tubelet(index) for index in range(config.num_tubelets)]
        samples.append({name: np.stack([tubelet[name] for tubelet in tubelets]) for name in tubelets[0]})
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
