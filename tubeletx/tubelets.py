"""The tubelets of a batch, as tensors."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tubeletx.ops._arguments import (
    check_geometry,
    check_positive,
    check_shape,
    check_tensor,
    require_integer,
    require_integers,
    require_tensors,
)
from tubeletx.ops.crop_patches import crop_patches
from tubeletx.ops.paste_tubelets import paste_tubelets, paste_tubelets_
from tubeletx.ops.sample_tubelets import FIELDS, PackedTubelets
from tubeletx.ops.track_points import track_points
from tubeletx.tracks import Flow, Tracks, cell_centers, check_grid

__all__ = ["Tubelets"]


@dataclasses.dataclass(eq=False)
class Tubelets:
    """M tubelets in each of B samples, over T frames of H x W pixels.

    Coordinates are continuous pixels, x right, y down; pixel (i, j) covers [j, j + 1) x [i, i + 1). All tensors live on
    one device; integers are int32, the others float32.

    Attributes:
        centers: Centre of the patch in each frame, [x, y]; (B, M, T, 2).
        linear: From patch axes (pixels from the patch's centre) to image axes: rotation * shear * scale;
            (B, M, T, 2, 2).
        patch_frame: Frame of clip 1 that the patch is cropped from; (B, M).
        patch_box: x0, y0, x1, y1 of the patch in that frame, half open; (B, M, 4).
        shape: 0 rectangle, 1 ellipse, 2 rhombus; (B, M).
        edge: Width of the soft edge in units of the half size, 0 for a hard one; (B, M).
        opacity: 1 covers what lies beneath; (B, M, T).
        order: Paint rank: rank 0 is painted first, the last one lies on top; (B, M).
        height: H.
        width: W.
        max_patch_size: Height and width of the storage that holds any of the patches.
    """

    centers: Tensor
    linear: Tensor
    patch_frame: Tensor
    patch_box: Tensor
    shape: Tensor
    edge: Tensor
    opacity: Tensor
    order: Tensor
    height: int
    width: int
    max_patch_size: tuple[int, int]

    @classmethod
    def from_packed(cls, packed: PackedTubelets, height: int, width: int, max_patch_size: tuple[int, int]) -> Tubelets:
        """Tubelets whose tensors are views of what an operator gave, made when they are first asked for."""
        tubelets = object.__new__(cls)
        tubelets._packed = packed  # type: ignore[attr-defined]  # no field: fields are what can be replaced
        tubelets.height, tubelets.width, tubelets.max_patch_size = height, width, max_patch_size
        return tubelets

    if not TYPE_CHECKING:  # would let any name pass

        def __getattr__(self, name: str) -> Tensor:
            # Reached for a field that was not asked for so far, and for names that do not exist.
            if name not in FIELDS or "_packed" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            field = self._packed.field(name)
            setattr(self, name, field)
            return field

    @property
    def batch_size(self) -> int:
        """B."""
        return self.centers.shape[0]

    @property
    def num_tubelets(self) -> int:
        """M."""
        return self.centers.shape[1]

    @property
    def num_frames(self) -> int:
        """T."""
        return self.centers.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.centers.device

    @property
    def patch_size(self) -> Tensor:
        """Width and height of each patch before its transformations, in pixels; (B, M, 2) int32."""
        start, end = self.patch_box.chunk(2, dim=-1)
        return end - start

    def tensors(self) -> dict[str, Tensor]:
        """The eight tensors by name."""
        return {name: getattr(self, name) for name in FIELDS}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Tubelets:
        """The same tubelets on another device."""
        device = torch.device(device)
        return self._replace(
            {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.tensors().items()}
        )

    def __len__(self) -> int:
        """B."""
        return self.batch_size

    def __iter__(self) -> Iterator[Tubelets]:
        """The samples, each a batch of one."""
        return (self[index] for index in range(self.batch_size))

    def __getitem__(self, index: int | slice | list[int] | list[bool] | npt.NDArray[Any] | Tensor) -> Tubelets:
        """Some of the samples. An integer of any type gives a batch of one, so that every result is a batch.

        Args:
            index: An integer, a slice, or a list, array or tensor of integers or of a bool for each sample; nothing
                that reaches for other axes than that of the samples.

        Raises:
            IndexError: There is no such sample, or `index` has more than one axis.
            TypeError: `index` is something else.
        """
        if isinstance(index, list):
            index = np.asarray(index) if index else np.zeros(0, np.int64)
        if isinstance(index, Tensor | np.ndarray):
            if index.ndim > 1:
                raise IndexError(f"index: got shape {tuple(index.shape)}, needs one axis, that of the samples")
            index = torch.as_tensor(index) if isinstance(index, Tensor) or index.dtype.kind in "iub" else index
            if not isinstance(index, Tensor) or index.is_floating_point() or index.is_complex():
                raise TypeError(f"index: got {index.dtype}, needs integers or bools")
            index = index.reshape(-1) if index.dtype == torch.bool else index.reshape(-1).long()
        elif not isinstance(index, slice):
            index = require_integer(index, "index")
            if not -self.batch_size <= index < self.batch_size:
                raise IndexError(f"index: got {index}, needs one of {self.batch_size} samples")
            index %= self.batch_size
            index = slice(index, index + 1)
        return self._replace({name: tensor[index] for name, tensor in self.tensors().items()})

    def reversed(self) -> Tubelets:
        """The same patches on the same paths, played backwards: the hardest negative there is."""
        flipped = {name: getattr(self, name).flip(2) for name in ("centers", "linear", "opacity")}
        return dataclasses.replace(self, **flipped)

    def fitted(self, patch_size: Tensor, max_patch_size: tuple[int, int]) -> Tubelets:
        """The same tubelets for patches of other sizes, stretched to fill the same outlines.

        Args:
            patch_size: Width and height of the patches, pixels; (B, M, 2) int32, at least 1.
            max_patch_size: Height and width of the storage that holds any of them.

        Returns:
            Tubelets with equal `boxes` and `coverage`, to `paste` such patches with. They are no longer boxes in a
            clip: `patch_box` starts at (0, 0).
        """
        stretch = self.patch_size / patch_size
        return dataclasses.replace(
            self,
            linear=self.linear * stretch[:, :, None, None],
            patch_box=torch.cat((torch.zeros_like(patch_size), patch_size), dim=-1),
            max_patch_size=max_patch_size,
        )

    def boxes(self, clip: bool = False) -> Tensor:
        """Bounding box of each tubelet in each frame, exact for its shape and transformation.

        Args:
            clip: Whether to cut the boxes at the frame's border; a tubelet outside the frame gets an empty box on it.

        Returns:
            (B, M, T, 4) float32, x0, y0, x1, y1 in continuous pixels.
        """
        spokes = (self.linear * (0.5 * self.patch_size)[:, :, None, None, :]).abs()
        # How far each shape reaches along an axis: the dual norm of the one that its outline is a ball of.
        reach = torch.stack((spokes.sum(-1), torch.linalg.vector_norm(spokes, dim=-1), spokes.amax(-1)))
        shape = self.shape.long()[None, :, :, None, None].expand(1, *reach.shape[1:])
        half_size = reach.gather(0, shape)[0]
        boxes = torch.cat((self.centers - half_size, self.centers + half_size), dim=-1)
        if not clip:
            return boxes
        frame = boxes.new_tensor((self.width, self.height, self.width, self.height))
        return boxes.clamp(min=torch.zeros_like(frame), max=frame)

    def coverage(self, cell: tuple[int, int, int] = (2, 16, 16), per_tubelet: bool = False) -> Tensor:
        """Share of the pixels of each space-time cell that tubelets cover, counted with the masks that paste them.

        A pixel counts where its centre lies within a tubelet's outline, whatever its opacity and edge.

        Args:
            cell: Frames, height and width of a cell; each must divide the clip's.
            per_tubelet: Whether to count each tubelet by itself.

        Returns:
            (B, T / cell[0], H / cell[1], W / cell[2]) float32 in [0, 1]; with `per_tubelet` (B, M, ...).

        Raises:
            ValueError: `cell` does not divide the clip.
        """
        cell, _ = self._cells(cell)
        size = (self.num_frames, self.height, self.width)
        if per_tubelet:
            each = self._one_by_one().coverage(cell)
            return each.reshape(self.batch_size, self.num_tubelets, *each.shape[1:])
        solid = dataclasses.replace(self, edge=torch.zeros_like(self.edge), opacity=torch.ones_like(self.opacity))
        # uint8, whose rounding makes the colours exact: float32 weights need not sum to 1.
        batch, tubelets = self.batch_size, self.num_tubelets
        clip = torch.zeros((batch, 1, *size), dtype=torch.uint8, device=self.device)
        ones = torch.ones((batch, tubelets, 1, *self.max_patch_size), dtype=torch.uint8, device=self.device)
        solid.paste([clip], ones, inplace=True)
        return functional.avg_pool3d(clip.float(), cell)[:, 0]

    def track(self, points: Tensor, point_frame: Tensor) -> Tracks:
        """Follows points through the clip, exactly: what each shows, where that lies in all frames, whether it is seen.

        A point belongs to the surface that has the largest share of the colour at its place: a tubelet, with which it
        moves, or the background, which rests. Other tubelets hide it by their masks, opacity and paint order.

        Args:
            points: [x, y], continuous pixels; (B, N, 2) float32.
            point_frame: The frame in which each is given; (B, N) int32.

        Returns:
            Tracks of (B, N) points. A patch's own alpha, which tubelets do not know of, is not looked at.

        Raises:
            ValueError: An argument has a wrong shape or dtype, or a frame is none of the clip's.
        """
        frames = torch.arange(self.num_frames, dtype=torch.int32, device=self.device)
        return Tracks(*self._track(points, point_frame, frames.expand(*points.shape[:2], -1)))

    def tracks(self, grid: tuple[int, int] = (14, 14), frame: int = 0) -> Tracks:
        """Follows what lies at the centre of each cell of a grid in one frame through all frames; see `track`.

        Args:
            grid: Rows and columns of cells that divide the frame evenly; any numbers.
            frame: The frame in which the points lie on the grid.

        Returns:
            Tracks of (B, rows, columns) points.

        Raises:
            ValueError: `grid` is none, or `frame` none of the clip's.
        """
        frame, grid = require_integer(frame, "frame"), check_grid(grid)
        if not 0 <= frame < self.num_frames:
            raise ValueError(f"frame: got {frame}, needs one of the clip's {self.num_frames} frames")
        points = cell_centers(grid, self.height, self.width, self.device).expand(self.batch_size, -1, -1)
        start = torch.full((1, 1), frame, dtype=torch.int32, device=self.device).expand(points.shape[:2])
        return Tracks(*(_split(part, grid) for part in self.track(points, start)))

    def flow(self, grid: tuple[int, int] = (14, 14), step: int = 1) -> Flow:
        """Motion of what lies at the centre of each cell of a grid, from each frame to a later or earlier one.

        Args:
            grid: Rows and columns of cells that divide the frame evenly; (H, W) gives the flow of each pixel.
            step: How many frames later: 1 gives the forward flow, -1 the backward one. From where there is no such
                frame the displacement is 0, and the visibility 0.

        Returns:
            The flow, in pixels over `step` frames.

        Raises:
            ValueError: `grid` is none.
        """
        grid = check_grid(grid)
        # Farther than all frames is as far as they go.
        step = max(-self.num_frames, min(require_integer(step, "step"), self.num_frames))
        places, visibility, owner = self._on_grid(grid, (step,))
        start = cell_centers(grid, self.height, self.width, self.device).reshape(*grid, 2)
        return Flow(places[..., 0, :] - start, visibility[..., 0], owner)

    def speed(self, cell: tuple[int, int, int] = (2, 16, 16), samples: int = 4) -> Tensor:
        """Mean speed of what each space-time cell shows: `coverage` weighted by how fast the tubelets move.

        What masked modelling guided by motion draws its masks from.

        Args:
            cell: Frames, height and width of a cell; each must divide the clip's.
            samples: The mean is over samples x samples places of each cell, in each of its frames.

        Returns:
            (B, T / cell[0], H / cell[1], W / cell[2]) float32, pixels a frame: to the next frame, and from the one
            before in the last. 0 where the background shows, and in clips of one frame.

        Raises:
            ValueError: `cell` does not divide the clip, or `samples` is not positive.
        """
        cell, count = self._cells(cell)
        samples = require_integer(samples, "samples")
        if samples < 1:
            raise ValueError(f"samples: got {samples}, needs at least 1")
        grid = (count[1] * samples, count[2] * samples)
        # From where it is seen to the next frame; the last one looks back.
        places, visibility, _ = self._on_grid(grid, (0, 1, -1))
        moved = torch.linalg.vector_norm(places[..., 1:, :] - places[..., :1, :], dim=-1)
        speed = torch.cat((moved[:, :-1, ..., 0], moved[:, -1:, ..., 1]), dim=1) * visibility[..., 0]
        return functional.avg_pool3d(speed[:, None], (cell[0], samples, samples))[:, 0]

    def crop(self, clip: Tensor) -> Tensor:
        """Cuts the patches out of clip 1.

        Args:
            clip: (B, C, T, H, W).

        Returns:
            (B, M, C, *max_patch_size) in the clip's dtype, zero beyond each patch's own size.
        """
        return crop_patches(clip, self.patch_frame, self.patch_box, size=self.max_patch_size)

    def paste(
        self, clips: list[Tensor], patches: Tensor, offsets: Tensor | None = None, *, inplace: bool = False
    ) -> list[Tensor]:
        """Overlays the tubelets onto each of V clips (Eq. 3 and 4).

        Args:
            clips: V clips of (B, C, T, H, W), of equal shape and dtype.
            patches: As `crop` gives them, shared by the clips; or (B, V, M, C, Hp, Wp), for each clip its own. One
                channel more than the clips' is the patches' own opacity.
            offsets: Translation of the paths in each clip, pixels; (B, V, M, 2) float32.
            inplace: Whether to write into `clips`.

        Returns:
            V clips; with `inplace` the given ones.
        """
        fields = (
            self.patch_size,
            self.centers,
            self.linear,
            self.shape,
            self.edge,
            self.opacity,
            self.order,
        )
        if inplace:
            paste_tubelets_(clips, patches, *fields, offsets)
            return clips
        return paste_tubelets(clips, patches, *fields, offsets)

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the tubelets to a file that `load` and `torch.load(path, weights_only=True)` read."""
        torch.save({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, path)

    @classmethod
    def load(cls, path: str | pathlib.Path, device: torch.device | str = "cpu") -> Tubelets:
        """Reads what `save` wrote.

        Raises:
            ValueError: The file holds something else.
            OSError: It cannot be read.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # whatever torch's reader makes of bytes that are something else
            raise ValueError(f"path: {path} does not hold tubelets, or is damaged ({type(error).__name__})") from error
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(content, dict) or set(content) != names:
            raise ValueError(f"path: {path} does not hold tubelets")
        tubelets = cls(**content)
        try:
            tubelets._check()
        except (TypeError, ValueError) as error:
            raise ValueError(f"path: {path} does not hold tubelets: {error}") from error
        return tubelets.to(device)

    def _check(self) -> None:
        """Refuses fields of other types, shapes and dtypes than theirs."""
        require_tensors(**self.tensors())
        self.height, self.width = require_integer(self.height, "height"), require_integer(self.width, "width")
        check_positive(self.height, "height")
        check_positive(self.width, "width")
        largest = require_integers(self.max_patch_size, "max_patch_size")
        if len(largest) != 2 or min(largest) < 1:
            raise ValueError(f"max_patch_size: got {largest}, needs a height and a width of at least 1")
        self.max_patch_size = (largest[0], largest[1])
        check_shape(self.centers, "centers", (None, None, None, 2), "(B, M, T, 2)")
        each = (self.batch_size, self.num_tubelets)
        geometry = (self.centers, self.linear, self.shape, self.edge, self.opacity, self.order)
        lies_with = (self.centers, "centers")
        check_geometry(*each, self.num_frames, *geometry, *lies_with)
        check_tensor(self.patch_frame, "patch_frame", torch.int32, each, "(B, M)", *lies_with)
        check_tensor(self.patch_box, "patch_box", torch.int32, (*each, 4), "(B, M, 4)", *lies_with)

    def _cells(self, cell: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The checked cell, and how many of it divide the clip along T, H and W."""
        size = (self.num_frames, self.height, self.width)
        parts = require_integers(cell, "cell")
        if len(parts) != 3 or any(part < 1 or whole % part for part, whole in zip(parts, size, strict=True)):
            raise ValueError(f"cell: got {parts}, needs divisors of (T, H, W) = {size}")
        frames, height, width = parts
        return (frames, height, width), (size[0] // frames, size[1] // height, size[2] // width)

    def _track(self, points: Tensor, point_frame: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return track_points(
            points,
            point_frame,
            frames,
            self.patch_size,
            self.centers,
            self.linear,
            self.shape,
            self.edge,
            self.opacity,
            self.order,
            height=self.height,
            width=self.width,
        )

    def _on_grid(self, grid: tuple[int, int], steps: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """What each cell shows in each frame, followed by `steps`: the results as (B, T, rows, columns, ...)."""
        centers = cell_centers(grid, self.height, self.width, self.device)
        start = torch.arange(self.num_frames, dtype=torch.int32, device=self.device).repeat_interleave(len(centers))
        ends = start[:, None] + torch.tensor(steps, dtype=torch.int32, device=self.device)
        parts = self._track(
            centers.repeat(self.num_frames, 1).expand(self.batch_size, -1, -1),
            start.expand(self.batch_size, -1),
            ends.expand(self.batch_size, -1, -1),
        )
        places, visibility, owner = (_split(part, (self.num_frames, *grid)) for part in parts)
        return places, visibility, owner

    def _one_by_one(self) -> Tubelets:
        """Each tubelet as a sample of its own: B M samples of one tubelet."""
        return self._replace({name: tensor.flatten(0, 1)[:, None] for name, tensor in self.tensors().items()})

    def _replace(self, tensors: dict[str, Tensor]) -> Tubelets:
        return Tubelets(**tensors, height=self.height, width=self.width, max_patch_size=self.max_patch_size)


def _split(tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The second axis as several."""
    return tensor.reshape(tensor.shape[0], *sizes, *tensor.shape[2:])
