"""Fixtures: a tiny gym set, rendered once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tubeletx_train.rendered.config import RenderConfig
from tubeletx_train.rendered.render import render


@pytest.fixture(scope="session")
def tiny_gym(tmp_path_factory: pytest.TempPathFactory) -> RenderConfig:
    """Settings of a rendered set of six clips a class."""
    pytest.importorskip("pybullet", reason="pybullet renders the gym set")
    output = tmp_path_factory.mktemp("gym")
    config = RenderConfig(set="gym", output=str(output), clips_per_class=6, num_frames=8, size=32, num_workers=2)
    assert render(config, progress=False) == Path(output) / "manifest.csv"
    return config
