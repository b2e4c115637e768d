"""Marks as slow what `slow_tests.txt` lists, one test function a line, for all its parameters.

The list is what `pytest --durations=0` says took longer than about a second in all; `make test-fast` leaves it out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SLOW = frozenset(HERE.joinpath("slow_tests.txt").read_text(encoding="utf-8").split())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = getattr(item, "originalname", item.name)
        if f"{item.path.relative_to(HERE).as_posix()}::{name}" in SLOW:
            item.add_marker(pytest.mark.slow)
