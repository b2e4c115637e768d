"""MkDocs hook: takes the study into the navigation where its report is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PAGES = {"Report": "study/README.md", "Findings": "study/findings.md", "The first report": "study/first/README.md"}


def on_config(config: Any) -> Any:
    """Add the pages, and let their pictures through."""
    there = [{title: page} for title, page in _PAGES.items() if (Path(config.docs_dir) / page).is_file()]
    if there:
        config.nav.append({"Study": there})
        config.exclude_docs = type(config.exclude_docs).from_lines(["*.py"])
    return config
