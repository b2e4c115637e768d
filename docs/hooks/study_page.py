"""MkDocs hook: takes the study into the navigation where its report is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PAGE = "study/README.md"


def on_config(config: Any) -> Any:
    """Add the page, and let its pictures through."""
    if (Path(config.docs_dir) / _PAGE).is_file():
        config.nav.append({"Study": _PAGE})
        config.exclude_docs = type(config.exclude_docs).from_lines(["*.py"])
    return config
