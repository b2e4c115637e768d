"""Marks as slow what `slow_tests.txt` lists: a file, or a test function for all its parameters, one a line.

The list is what `pytest --durations=0` finds slow; `make test-fast` leaves it out. What Hypothesis draws is the same in
each run, so that a test does not fail by chance where nothing was changed; `--hypothesis-profile=default` draws anew.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
SLOW = frozenset(HERE.joinpath("slow_tests.txt").read_text(encoding="utf-8").split())

settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture
def signals_of_a_terminal() -> Iterator[None]:
    """None is ignored, as some are under `nohup`, and in what a script starts with `&`."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        file = item.path.relative_to(HERE).as_posix()
        if file in SLOW or f"{file}::{getattr(item, 'originalname', item.name)}" in SLOW:
            item.add_marker(pytest.mark.slow)
