"""The scripts of benchmarks/ as modules, and a stand-in for a GPU."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the scripts be imported by their names, as they import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


class OnTheHost(TorchFunctionMode):
    """Puts what is meant for a GPU into the host's memory."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), keywords: Any = None
    ) -> Any:
        keywords = {name: _host(value) for name, value in (keywords or {}).items()}
        return function(*map(_host, arguments), **keywords)


def _host(value: Any) -> Any:
    return "cpu" if isinstance(value, str) and value == "cuda" else value


class Event:
    """Times by the host's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        assert self.at

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end.at - self.at)


class Graph:
    """Counts replays."""

    def replay(self) -> None:
        pass


class Stream:
    def wait_stream(self, other: Stream) -> None:
        pass


@contextlib.contextmanager
def nothing(*_: object, **__: object) -> Iterator[None]:
    yield


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Everything on the host, with results in the folder given; captured work runs once and its replay does nothing."""
    import harness

    stand_ins = {
        **{"Event": Event, "CUDAGraph": Graph, "Stream": Stream, "current_stream": Stream},
        **{"stream": nothing, "graph": nothing, "synchronize": nothing},
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value)
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator(_host(device)))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    with OnTheHost():
        yield tmp_path
