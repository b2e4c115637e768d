"""Renders a set: videos in parallel, their manifest, and a sheet that shows every class."""

from __future__ import annotations

import atexit
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from tubeletx_train.common.errors import CommandError
from tubeletx_train.common.files import explain_full_disk, writable_folder, write_json
from tubeletx_train.common.lock import locked_folder
from tubeletx_train.common.processes import ctrl_c_held, exit_with_parent, forkserver_context
from tubeletx_train.data import DataError, VideoRecord, write_manifest
from tubeletx_train.rendered.config import RenderConfig, SetName
from tubeletx_train.rendered.sets import RenderedSet, Renderer, rendered_set
from tubeletx_train.rendered.sheet import contact_sheet
from tubeletx_train.rendered.video import write_video

MANIFEST = "manifest.csv"
SHEET = "classes.png"
_SETTINGS = "settings.json"
_CLIPS = "clips"

# Rendered by one process in one go: some seconds.
_CHUNK = 16
_GOES_ON = "the same command goes on"


@dataclass(frozen=True)
class _Place:
    """A clip by its class and number."""

    label: int
    number: int


def render(config: RenderConfig, *, progress: bool = True) -> Path:
    """Render what is missing of a set.

    Args:
        config: What is rendered.
        progress: Show a progress bar (on a terminal).

    Returns:
        The manifest.

    Raises:
        UsageError: The package that renders is missing, the folder cannot be written to, or another process holds it.
        DataError: The folder holds another set, or one of other settings.
        CommandError: A process died, or the disk is full.
    """
    chosen = rendered_set(config.set)
    folder = writable_folder(config.output)
    with locked_folder(folder, "rendered into"):
        return _render(folder, config, chosen, progress)


def _render(folder: Path, config: RenderConfig, chosen: RenderedSet, progress: bool) -> Path:
    _claim(folder, config)
    for name in chosen.class_names:
        (folder / _CLIPS / name).mkdir(parents=True, exist_ok=True)
    places = [
        _Place(label, number) for label in range(len(chosen.class_names)) for number in range(config.clips_per_class)
    ]
    missing = [place for place in places if not _path(folder, chosen, place).exists()]
    with explain_full_disk(folder, f"; {_GOES_ON} when there is"):
        if missing:
            with chosen.open():
                pass  # says in this process, and at once, what is not installed
            _render_all(folder, config, missing, len(places), progress)
        records = [_record(folder, config, chosen, place) for place in places]
        write_manifest(folder / MANIFEST, records)
        contact_sheet(
            folder / SHEET, [records[label * config.clips_per_class] for label in range(len(chosen.class_names))]
        )
    return folder / MANIFEST


def _claim(folder: Path, config: RenderConfig) -> None:
    """Make sure that what the folder holds, if anything, was rendered with the same settings."""
    wanted = {name: value for name, value in asdict(config).items() if name in ("set", "num_frames", "size", "seed")}
    file = folder / _SETTINGS
    if file.exists():
        try:
            earlier = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise DataError(f"{file}: holds no settings of a rendered set; choose another output folder") from error
        if earlier != wanted:
            raise DataError(
                f"{folder}: holds videos rendered with {_words(earlier)}, not {_words(wanted)}; "
                "choose another output folder"
            )
    elif (folder / _CLIPS).exists():
        raise DataError(f"{folder}: holds a folder {_CLIPS} but no {_SETTINGS}; choose another output folder")
    else:
        write_json(file, wanted)


def settings_of(folder: Path) -> RenderConfig:
    """What a folder was rendered with; the number of clips a class is not kept.

    Raises:
        DataError: It holds no rendered set.
    """
    file = folder / _SETTINGS
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        if settings["set"] not in get_args(SetName):
            raise ValueError(f"set: got {settings['set']!r}, needs one of {', '.join(get_args(SetName))}")
        return RenderConfig(output=str(folder), **settings)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{folder}: holds no rendered set ({type(error).__name__}: {error}); "
            f"`tubeletx-train render gym --output {folder}` makes one"
        ) from error


def _words(settings: object) -> str:
    if not isinstance(settings, dict):
        return "settings unknown"
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _path(folder: Path, chosen: RenderedSet, place: _Place) -> Path:
    return folder / _CLIPS / chosen.class_names[place.label] / f"{place.number:05d}.mp4"


def _record(folder: Path, config: RenderConfig, chosen: RenderedSet, place: _Place) -> VideoRecord:
    clip = chosen.draw(config.seed, place.label, place.number)
    path = _path(folder.absolute(), chosen, place)
    return VideoRecord(str(path), label=chosen.class_names[place.label], split=clip.split, group=clip.group)


def _render_all(folder: Path, config: RenderConfig, missing: list[_Place], total: int, progress: bool) -> None:
    executor = ProcessPoolExecutor(
        config.num_workers,
        mp_context=forkserver_context("tubeletx_train.rendered.render"),
        initializer=_start_worker,
        initargs=(config,),
    )
    bar = tqdm(
        desc=f"rendering {config.set}",
        total=total,
        initial=total - len(missing),
        unit="video",
        dynamic_ncols=True,
        disable=None if progress else True,
    )
    try:
        with ctrl_c_held():
            waiting = [executor.submit(_render_some, folder, chunk) for chunk in _chunks(missing)]
        for future in as_completed(waiting):
            bar.update(future.result())
    except BrokenProcessPool as error:
        raise CommandError(f"a process that renders was killed (out of memory?); {_GOES_ON}") from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        bar.close()


def _chunks(places: list[_Place]) -> Iterator[list[_Place]]:
    for first in range(0, len(places), _CHUNK):
        yield places[first : first + _CHUNK]


# In a process that renders: what it renders with, and what.
_worker: tuple[RenderConfig, RenderedSet, Renderer] | None = None


def _start_worker(config: RenderConfig) -> None:
    global _worker
    exit_with_parent()
    chosen = rendered_set(config.set)
    context = chosen.open()
    _worker = config, chosen, context.__enter__()
    atexit.register(context.__exit__, None, None, None)


def _render_some(folder: Path, places: list[_Place]) -> int:
    """Render clips and write them; returns how many."""
    assert _worker is not None, "_render_some is for processes that _start_worker has started"
    config, chosen, renderer = _worker
    for place in places:
        clip = chosen.draw(config.seed, place.label, place.number)
        write_video(_path(folder, chosen, place), renderer.render(clip, config.num_frames, config.size))
    return len(places)
