"""What the README and the documentation show runs as it stands: Python, recipes and commands."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from video_files import make_video

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


sys.path.append(str(ROOT / "docs" / "hooks"))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it claims to be, its text and its first line's number."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    content = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(content):
        title = re.search(r'title="(.*?)"', match[2])
        yield Block(match[1], title and title[1], match[3], content[: match.start(3)].count("\n") + 1)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every line of a console block, continued lines joined, comments off."""
    for block in blocks(page):
        if block.language in ("", "console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield words


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: a folder of videos, a folder for images."""
    root = tmp_path_factory.mktemp("materials")
    for index in range(3):
        make_video(root / "my_videos" / f"{index}.mp4", tint=(80 * index, 60, 20))
    (root / "objects").mkdir()
    Image.fromarray(np.full((20, 30, 4), 255, np.uint8)).save(root / "objects" / "white.png")
    return root


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_run(page, materials, monkeypatch):
    monkeypatch.chdir(materials)
    namespace = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python":
            # The empty lines make a traceback tell the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)


HOW_TO = ("patches", "loader", "loss", "loop")
COPIED = ["README.md", "docs/quick-start.md", *(f"docs/how-to/{page}.md" for page in HOW_TO)]


@pytest.mark.parametrize("page", COPIED)
def test_the_first_block_runs_wherever_it_is_pasted(page, tmp_path, monkeypatch):
    """With nothing before it, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    first = next(block for block in blocks(ROOT / page) if block.language == "python")
    exec(compile(first.text, page, "exec"), {"__name__": "page"})


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_recipes_hold_known_settings(page, tmp_path):
    from tubeletx_train.config.parse import parse_config
    from tubeletx_train.config.pretrain import PretrainConfig
    from tubeletx_train.config.recipes import load_recipe
    from tubeletx_train.config.tree import flatten, to_tree

    for block in blocks(page):
        if block.language == "yaml" and block.title is not None:
            # `test_commands_can_be_given` reads it, as settings of the command that it is for.
            assert any(block.title in words for words in commands(page))
        elif block.language == "yaml":
            path = tmp_path / "recipe.yaml"
            path.write_text(block.text, encoding="utf-8")
            config = parse_config(PretrainConfig, ["--config", str(path), "--data.videos", "x"], prog="test")
            given = flatten(load_recipe(str(path)))
            held = flatten(to_tree(config))
            for setting in given.keys() - {"tubelets.preset", "data.videos"}:
                assert held[setting] == given[setting], setting


def check_command(arguments: list[str]) -> None:
    """Let a command read its arguments."""
    from tubeletx_train.commands import find_command

    found = find_command(arguments)
    assert not isinstance(found, str), arguments
    command, rest = found
    command.parse(rest)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_can_be_given(page, tmp_path, materials, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_videos").symlink_to(materials / "my_videos")
    for block in blocks(page):
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in commands(page):
        while "=" in words[0]:  # environment variables
            words.pop(0)
        program, *arguments = words
        if program == "make":
            assert set(arguments) <= set(targets), words
        elif program == "python" and arguments[0] != "-m":
            assert (ROOT / arguments[0]).is_file(), words
        elif program == "torchrun":
            check_command(arguments[arguments.index("tubeletx_train") + 1 :])
        elif program == "tubeletx-train":
            check_command(arguments)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_mentioned_names_exist(page):
    from tubeletx_train.commands import COMMANDS
    from tubeletx_train.config.parse import option_names
    from tubeletx_train.config.recipes import recipe_names

    content = page.read_text(encoding="utf-8")
    assert set(re.findall(r"tubeletx-train ([a-z]\w*)", content)) <= {command.name.split()[0] for command in COMMANDS}
    folders = "|".join({recipe.partition("/")[0] for recipe in recipe_names() if "/" in recipe})
    assert set(re.findall(rf"`((?:{folders})/[a-z0-9_/]+\w)`", content)) <= set(recipe_names())
    settings = {setting for command in COMMANDS for setting in option_names(command.config_class)}
    settings |= {setting.rpartition(".")[0] for setting in settings}  # a section of a section
    # `tubelets` is what the pages call a `Tubelets` too.
    sections = "|".join({setting.partition(".")[0] for setting in settings if "." in setting} - {"tubelets"})
    assert set(re.findall(rf"`((?:{sections})\.(?!pt`|py`)\w+)`", content)) <= settings
    for path in re.findall(r"`((?:benchmarks|examples|docs|tests|csrc)/[\w./]+)`", content):
        assert (ROOT / path).exists(), path


def test_released_code_page_names_settings_of_tubelets():
    from tubeletx import TubeletConfig

    table = (
        (ROOT / "docs" / "how-to" / "released-code.md").read_text(encoding="utf-8").partition("section `tubelets`")[2]
    )
    rows = [line.split("|") for line in table.partition("\n\n")[0].splitlines()[2:]]
    assert len(rows) > 10
    named = {setting for row in rows for setting in re.findall(r"`(\w+)`", row[2])}
    assert named <= {field.name for field in dataclasses.fields(TubeletConfig)}


def test_files_that_the_walks_name_exist():
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8").partition("## Inside the trainer")[2]
    named = {
        file
        for file in re.findall(r"`([\w/]+\.(?:py|yaml|h|cpp|cu))`", text)
        if not file.startswith(("csrc/", "tests/"))
    }
    for file in named:
        below = ROOT if file.startswith("tubeletx/") else ROOT / "train" / "tubeletx_train"
        assert (below / file).is_file(), file
    for file in re.findall(r"`((?:csrc|tests)/[\w/.]+)`", text):
        assert (ROOT / file).is_file(), file
    assert len(named) > 25


_SOURCES = [
    file
    for folder in ("benchmarks", "cmake", "csrc", "docs", "examples", "studies", "tests", "train", "tubeletx")
    for file in (ROOT / folder).rglob("*")
    if file.suffix in {".cpp", ".cu", ".h", ".md", ".py", ".pyi", ".yaml"}
]
_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w./*-]+\.(?:cpp|cu|h|md|py|yaml)")
_NAME = re.compile(r"[A-Za-z_][\w.]*_?")
# The worked example of CONTRIBUTING, a file that a run writes, and files of the authors' code.
_ELSEWHERE = re.compile(r".*mirror_path.*|config\.yaml|(configs/.*|finetune|linear_eval)\.py")


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_files_that_are_named_exist(page):
    paths = [file.relative_to(ROOT).as_posix() for file in [*_SOURCES, *ROOT.glob("*.md")]]
    named = {word for word in _CODE.findall(_prose(page)) if _FILE.fullmatch(word) and not _ELSEWHERE.fullmatch(word)}
    missing = {
        word
        for word in named
        # One that begins with an underscore is the end of a name.
        if not any(fnmatch.fnmatch(f"/{path}", f"*{word}" if word.startswith("_") else f"*/{word}") for path in paths)
    }
    assert missing == set()


def test_names_in_the_description_of_the_code_are_those_of_the_code():
    words = set(
        re.findall(r"\w+", "\n".join(file.read_text(encoding="utf-8") for file in _SOURCES if file.suffix != ".md"))
    )
    prose = _prose(ROOT / "docs" / "how-it-works.md")
    named = {word for word in _CODE.findall(prose) if _NAME.fullmatch(word) and not _FILE.fullmatch(word)}
    assert len(named) > 20
    assert {word for word in named if not words.issuperset(word.split("."))} == set()
