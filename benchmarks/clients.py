"""What users of other pipelines gain: objects on a clip as a loader worker pastes them, and pairs as kornia makes them.

- One clip of 16 x 224 x 224 with two RGBA objects, tubelets of preset `smile`, on one thread, beside OpenCV and PIL as
  loaders do it: the object resized by PIL for every frame, turned by cv2.warpAffine on a canvas that holds it, blended
  in float; and beside the fastest that we could write with OpenCV (opencv_peers.py). The OpenCV side gets its tubelets
  drawn beforehand, and in the second form its objects shrunk and premultiplied; tubeletx draws, in the time shown.
- A batch of 32 pairs of 16 x 112 x 112, preset `paper`, beside kornia's warp_affine and a blend of whole frames, and
  the fastest with OpenCV. Here too only tubeletx draws the tubelets in the time shown. Preset `released` is timed for
  itself.

Both sides paint the same tubelets, whose mean difference is shown, and are timed by the processor time of their
thread. Run: python benchmarks/clients.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import torch
from harness import measure, write_result
from kornia.geometry.transform import warp_affine
from opencv_peers import paste_images, paste_patches, premultiplied
from PIL import Image
from torch import Tensor

from tubeletx import ObjectPatches, PasteTubelets, TubeletConfig, TubeletPair, Tubelets

FRAMES, CLIPS, PAIRS = 16, 16, 32
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def drawn_objects(count: int, side: int = 128) -> list[Bytes]:
    """Smooth blobs of noise with a soft outline, about as cut-outs of photographs are."""
    generator = np.random.default_rng(0)
    objects = []
    for _ in range(count):
        color = cv2.resize(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8), (side, side))
        field = cv2.GaussianBlur(generator.standard_normal((side, side)), (0, 0), side / 8)
        y, x = np.mgrid[:side, :side] / (side - 1) * 2 - 1
        inside = 0.9 - np.hypot(x, y) + field / np.abs(field).max() * 0.3
        alpha = np.clip(inside * side / 4, 0, 1) * 255
        objects.append(np.dstack((color, alpha.astype(np.uint8))))
    return objects


class OneClip:
    """A clip in a loader worker."""

    SIDE = 224

    def __init__(self) -> None:
        images = drawn_objects(8)
        self.objects = ObjectPatches.from_images(images)
        self.paste = PasteTubelets(TubeletConfig.preset("smile"), patches=self.objects)
        self.images = [
            Image.fromarray(image).crop(Image.fromarray(image).getchannel("A").getbbox()) for image in images
        ]
        shape = (FRAMES, self.SIDE, self.SIDE, 3)
        self.frames: Bytes = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        ids = torch.arange(CLIPS)
        tubelets = self.paste.sampler(ids, num_frames=FRAMES, height=self.SIDE, width=self.SIDE)
        self.tubelets = {name: tensor.numpy() for name, tensor in tubelets.tensors().items()}
        self.sizes = tubelets.patch_size.numpy()
        self.choice = self.objects.choose(ids, 2).numpy()
        patches, fitted = self.objects.draw(tubelets, ids)
        self.fitted = {name: tensor.numpy() for name, tensor in fitted.tensors().items()}
        self.fitted_sizes = fitted.patch_size.numpy()
        self.premultiplied = [
            [
                premultiplied(np.ascontiguousarray(patch[:, :height, :width].permute(1, 2, 0).numpy()))
                for patch, (width, height) in zip(of_sample, sizes.tolist(), strict=True)
            ]
            for of_sample, sizes in zip(patches, fitted.patch_size, strict=True)
        ]

    def tubeletx(self) -> None:
        """Every clip, by one call each."""
        for index in range(CLIPS):
            self.paste(self.frames, index)

    def opencv(self) -> None:
        """Every clip, frame by frame."""
        for index in range(CLIPS):
            self.opencv_clip(self.frames, index)

    def best_opencv(self) -> None:
        """Every clip."""
        for index in range(CLIPS):
            self.best_opencv_clip(self.frames, index)

    def best_opencv_clip(self, frames: Bytes, index: int) -> None:
        """One clip."""
        fitted = self.fitted
        paste_images(
            frames,
            self.premultiplied[index],
            self.fitted_sizes[index],
            fitted["centers"][index],
            fitted["linear"][index],
            fitted["order"][index],
        )

    def opencv_clip(self, frames: Bytes, index: int) -> None:
        """One clip, frame by frame, in paint order."""
        for m in np.argsort(self.tubelets["order"][index]):
            image = self.images[self.choice[index, m]]
            for t in range(FRAMES):
                linear, center = self.tubelets["linear"][index, m, t], self.tubelets["centers"][index, m, t]
                _blend(frames[t], _turned(image, linear, self.sizes[index, m]), center)

    def difference(self, peer: Callable[[Bytes, int], None]) -> float:
        """Mean difference of the two results where either paints, in grey levels."""
        total, count = 0.0, 0
        for index in range(CLIPS):
            ours, theirs = self.frames.copy(), self.frames.copy()
            self.paste(ours, index)
            peer(theirs, index)
            painted = (ours != self.frames) | (theirs != self.frames)
            total += np.abs(ours.astype(int) - theirs)[painted].sum()
            count += painted.sum()
        return total / count


def _turned(image: Image.Image, linear: Floats, size: npt.NDArray[np.int32]) -> Bytes:
    """Resized for the frame by PIL, then turned on a canvas that just holds it."""
    scales = np.hypot(linear[0], linear[1])
    width, height = np.maximum(1, np.round(size * scales)).astype(int).tolist()
    resized = np.asarray(image.resize((width, height)))
    turn = linear / scales
    canvas = np.ceil(np.abs(turn) @ (width, height)).astype(int)
    matrix = np.column_stack((turn, canvas / 2 - turn @ (width / 2, height / 2)))
    return cv2.warpAffine(resized, matrix, tuple(canvas.tolist()))


def _blend(frame: Bytes, patch: Bytes, center: Floats) -> None:
    height, width = patch.shape[:2]
    left, top = np.round(center - (width / 2, height / 2)).astype(int)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, frame.shape[1]), min(top + height, frame.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    inside = patch[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    alpha = inside[..., 3:] / 255
    region = frame[y0:y1, x0:x1]
    region[:] = (region * (1 - alpha) + inside[..., :3] * alpha).astype(np.uint8)


class Pairs:
    """A batch on the device, here the CPU."""

    SIDE = 112

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (2, PAIRS, FRAMES, self.SIDE, self.SIDE, 3)
        pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        self.clips = [clip.permute(0, 4, 1, 2, 3) for clip in pixels]
        self.ids = torch.arange(PAIRS)
        self.pair = TubeletPair(TubeletConfig.preset("paper"), inplace=True)
        self.released = TubeletPair(TubeletConfig.preset("released"), inplace=True)
        self.tubelets = self.pair.sampler(self.ids, num_frames=FRAMES, height=self.SIDE, width=self.SIDE)

    def tubeletx(self) -> None:
        """The whole batch, in place."""
        self.pair(*self.clips, self.ids)

    def tubeletx_released(self) -> None:
        """The whole batch by the other law."""
        self.released(*self.clips, self.ids)

    def best_opencv(self) -> list[Tensor]:
        """The whole batch, in place, sample by sample."""
        fields = {name: tensor.numpy() for name, tensor in self.tubelets.tensors().items()}
        sizes = self.tubelets.patch_size.numpy()
        clips = [clip.permute(0, 2, 3, 4, 1).numpy() for clip in self.clips]
        for b in range(PAIRS):
            patches = [
                clips[0][b, frame, y0:y1, x0:x1].copy()
                for frame, (x0, y0, x1, y1) in zip(
                    fields["patch_frame"][b].tolist(), fields["patch_box"][b].tolist(), strict=True
                )
            ]
            geometry = (fields[name][b] for name in ("centers", "linear", "shape", "order"))
            paste_patches([clip[b] for clip in clips], patches, sizes[b], *geometry)
        return self.clips

    def kornia(self) -> list[Tensor]:
        """The whole batch, as new clips."""
        tubelets = self.tubelets
        sources = torch.cat((tubelets.crop(self.clips[0]).float(), _masks(tubelets)[:, :, None]), dim=2)
        frames = [clip.transpose(1, 2).flatten(0, 1).float() for clip in self.clips]
        sample = torch.arange(PAIRS)
        for layer in tubelets.order.argsort(1).unbind(1):
            linear, center = tubelets.linear[sample, layer], tubelets.centers[sample, layer]
            middle = (tubelets.patch_size[sample, layer, None] - 1) / 2
            shift = center - 0.5 - (linear @ middle[..., None])[..., 0]
            matrix = torch.cat((linear, shift[..., None]), dim=-1).flatten(0, 1)
            source = sources[sample, layer].repeat_interleave(FRAMES, 0)
            warped = warp_affine(source, matrix, (self.SIDE, self.SIDE))
            color, mask = warped[:, :3], warped[:, 3:]
            frames = [frame * (1 - mask) + color * mask for frame in frames]
        return [frame.add(0.5).to(torch.uint8).unflatten(0, (PAIRS, FRAMES)).transpose(1, 2) for frame in frames]

    def difference(self, peer: Callable[[], list[Tensor]]) -> float:
        """Mean difference of the two results where either paints, in grey levels."""
        before = [clip.clone() for clip in self.clips]
        theirs = [clip.clone() for clip in peer()]
        self._restore(before)
        self.tubeletx()
        painted = [(new != old) | (other != old) for new, old, other in zip(self.clips, before, theirs, strict=True)]
        differences = [
            (new.float() - other)[where] for new, other, where in zip(self.clips, theirs, painted, strict=True)
        ]
        self._restore(before)
        return torch.cat(differences).abs().mean().item()

    def _restore(self, before: list[Tensor]) -> None:
        for clip, old in zip(self.clips, before, strict=True):
            clip.copy_(old)


def _masks(tubelets: Tubelets) -> Tensor:
    """(B, M, Hp, Wp): the shapes, drawn in the patches."""
    height, width = tubelets.max_patch_size
    half = tubelets.patch_size[..., None, None] / 2
    x = ((torch.arange(width) + 0.5 - half[:, :, 0]) / half[:, :, 0]).abs()
    y = ((torch.arange(height)[:, None] + 0.5 - half[:, :, 1]) / half[:, :, 1]).abs()
    shape = tubelets.shape[..., None, None]
    distance = torch.where(shape == 0, torch.maximum(x, y), torch.where(shape == 1, torch.hypot(x, y), x + y))
    return (distance < 1).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="rounds of all candidates; pairs take half as many")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    one, pairs = OneClip(), Pairs()
    report: dict[str, object] = {
        "mean_difference_of_painted_pixels": {
            "one clip, opencv and PIL": one.difference(one.opencv_clip),
            "one clip, best opencv": one.difference(one.best_opencv_clip),
            "pairs, kornia": pairs.difference(pairs.kornia),
            "pairs, best opencv": pairs.difference(pairs.best_opencv),
        }
    }
    cases: tuple[tuple[str, int, int, dict[str, Callable[[], object]]], ...] = (
        (
            "one clip, two RGBA objects",
            CLIPS,
            arguments.repeats,
            {"tubeletx": one.tubeletx, "best opencv": one.best_opencv, "opencv and PIL": one.opencv},
        ),
        (
            f"a pair, of a batch of {PAIRS}",
            PAIRS,
            (arguments.repeats + 1) // 2,
            {
                "tubeletx": pairs.tubeletx,
                "tubeletx, preset released": pairs.tubeletx_released,
                "best opencv": pairs.best_opencv,
                "kornia": pairs.kornia,
            },
        ),
    )
    for name, count, repeats, peers in cases:
        seconds = measure(peers, repeats=repeats, clock=time.thread_time)
        each = {peer: value / count * 1e6 for peer, value in seconds.items()}
        ratios = {peer: value / each["tubeletx"] for peer, value in each.items() if peer != "tubeletx"}
        report[name] = {"microseconds": each, "times_tubeletx": ratios}
        print(f"{name}: " + ", ".join(f"{peer} {value:.0f} us" for peer, value in each.items()))
        print("  times tubeletx: " + ", ".join(f"{peer} {value:.1f}" for peer, value in ratios.items()))
    print(write_result("clients", report))


if __name__ == "__main__":
    main()
