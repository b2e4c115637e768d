"""The documentation builds without a warning, fetches nothing, and holds what the code holds."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "docs"), str(ROOT / "docs" / "hooks")]
import benchmark_tables  # noqa: E402
import draw_pictures  # noqa: E402
import study_page  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages. Strict: a warning, such as a link that leads nowhere, ends the build."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")))


def test_nothing_is_fetched(site):
    fetching = r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?([^\"' >]+)|<link[^>]*\shref=[\"']?([^\"' >]+)|url\(([^)]+)\)"
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in [*pages, *site.rglob("*.css")]:
        for match in re.finditer(fetching, page.read_text(encoding="utf-8")):
            assert not re.match(r"[\"']?(?:https?:)?//", match[1] or match[2] or match[3]), (page.name, match[0])


def test_no_marked_place_is_left(site):
    for page in site.rglob("*.html"):
        assert not re.search(r"<!-- \w+ -->", page.read_text(encoding="utf-8")), page.name


def test_trainer_page_holds_every_command_setting_and_recipe(site):
    from tubeletx_train.commands import COMMANDS
    from tubeletx_train.config.parse import option_names
    from tubeletx_train.config.recipes import recipe_names

    page = text_of(site / "trainer.html")
    words = set(re.findall(r"[\w/.]+", page))
    for command in COMMANDS:
        assert set(command.name.split()) <= words
        assert {name.rpartition(".")[2] for name in option_names(command.config_class)} <= words
    assert set(recipe_names()) <= words


def test_operator_page_holds_every_public_name(site):
    import tubeletx

    page = (site / "operators.html").read_text(encoding="utf-8")
    anchors = set(re.findall(r'id="(tubeletx[\w.]*)"', page))
    public = {name for name in tubeletx.__all__ if name != "ops"}
    assert {f"tubeletx.{name}" for name in public} <= anchors
    assert {f"tubeletx.ops.{name}" for name in tubeletx.ops.__all__} <= {
        re.sub(r"^(tubeletx\.ops)\.\w+\.(\w+)$", r"\1.\2", anchor) for anchor in anchors
    }
    settings = {field.name for field in dataclasses.fields(tubeletx.TubeletConfig)}
    assert settings <= set(re.findall(r"\w+", text_of(site / "operators.html")))


def test_benchmark_page_holds_every_result(site):
    page = text_of(site / "benchmarks.html")
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert re.search(rf"(?<!/)\b{path.stem}\b", page)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"seconds": {"ours": 2e-5, "theirs": 0.25}, "ratio": {"theirs": 12500.0}},
         ["| | time | ratio |\n|---|---:|---:|\n| ours | 20.0 µs |  |\n| theirs | 250 ms | 12,500 |"]),
        ({"seconds": {"a": 1.5}, "counts": {"b": 3}},
         ["| | time |\n|---|---:|\n| a | 1.50 s |", "| | counts |\n|---|---:|\n| b | 3 |"]),
        ({"runs": [{"batch": 2, "microseconds_a_call": {"add_": 7.0}}]},
         ["batch 2", "| | time a call |\n|---|---:|\n| add\\_ | 7.00 µs |"]),
        ({"host": {"x": {"a": 1.0}, "n": 2}}, ["**host**: n 2", "| | x |\n|---|---:|\n| a | 1.00 |"]),
        ({"kernel": "run<Paste>", "grid": [8, 1]}, ["kernel run&lt;Paste>, grid 8 x 1"]),
        ({"empty": {}}, []),
    ],
    ids=["columns", "apart", "list", "nested", "facts", "empty"],
)  # fmt: skip
def test_benchmark_tables(payload, expected):
    assert list(benchmark_tables._tables(payload)) == expected


def test_what_was_measured_on_several_machines_stands_together(tmp_path):
    """The machine of the README's tables first."""
    for folder, processor in ((tmp_path / "another", "B"), (tmp_path, "A")):
        folder.mkdir(exist_ok=True)
        record = {"benchmark": "paste", "date": "2026-11-27T00:00:00", "commit": "abc", "versions": {"torch": "2.13"}}
        record |= {"machine": {"processor": processor}, "pairs": 2}
        (folder / "paste.json").write_text(json.dumps(record))
    (section,) = benchmark_tables._sections(tmp_path)
    heading, about, *found = section.split("\n\n")
    assert heading == "## paste"
    assert about.startswith("`benchmarks/paste.py`: Cropping and pasting")
    measured = [f"2026-11-27, commit `abc`: **processor {name}**; torch 2.13." for name in "AB"]
    assert found == [measured[0], "pairs 2", measured[1], "pairs 2"]


def test_pictures_are_drawn(tmp_path):
    for draw, name in ((draw_pictures.draw_pair, "pair.png"), (draw_pictures.draw_coordinates, "coordinates.svg")):
        committed = ROOT / "docs" / "pictures" / name
        draw(tmp_path / name)
        assert (tmp_path / name).stat().st_size == pytest.approx(committed.stat().st_size, rel=0.2)
        assert committed.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("written", "navigation"),
    [
        ([], []),
        (["README.md"], [{"Study": [{"Report": "study/README.md"}]}]),
        (
            ["README.md", "findings.md"],
            [{"Study": [{"Report": "study/README.md"}, {"Findings": "study/findings.md"}]}],
        ),
    ],
)
def test_study_pages_are_there_once_they_are_written(tmp_path, written, navigation):
    from mkdocs.config.config_options import PathSpec

    config = SimpleNamespace(docs_dir=str(tmp_path), nav=[], exclude_docs=PathSpec().run_validation("*.py\nstudy/\n"))
    (tmp_path / "study").mkdir()
    for name in written:
        (tmp_path / "study" / name).write_text("# Study\n", encoding="utf-8")
    study_page.on_config(config)
    assert config.nav == navigation
    assert config.exclude_docs.match_file("study/README.md") != bool(written)
    assert config.exclude_docs.match_file("draw_pictures.py")
