"""The style of the C++ sources that no formatter checks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in (ROOT / "csrc", ROOT / "tests")
    for path in folder.rglob("*")
    if path.suffix in {".h", ".cpp", ".cu"}
]
COMMENTS_AND_STRINGS = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
# A declared name stands before `=`, `{`, `[`, `,` or `;`; what stands before `(` is a function, what is a lambda too.
CONSTANT = re.compile(
    r"(?<!if )\bconstexpr\s+(?:(?:static|inline|const)\s+)*(?:[\w:]+(?:<[^;={}]*>)?[\s&*]+)(\w+)\s*[=\[{;,](?!\s*\[)"
)
FURTHER_CONSTANT = re.compile(r",\s*(\w+)\s*(?:\[[^\]]*\]\s*)?=(?!=)")
PARAMETERS = re.compile(r"\btemplate\s*<([^<>]*(?:<[^<>]*>[^<>]*)*)>")
VALUE_PARAMETER = re.compile(r"(?:^|,)\s*(?!typename\b|class\b|template\b)[\w:]+\s+(\w+)")
NAME = re.compile(r"k[A-Z][A-Za-z0-9]*_?")


def constants(source: str) -> set[str]:
    """Names of the constants of compile time that C++ source declares."""
    source = COMMENTS_AND_STRINGS.sub(" ", source)
    names = set()
    for match in CONSTANT.finditer(source):
        names.add(match[1])
        names.update(FURTHER_CONSTANT.findall(source[match.end(1) : source.index(";", match.end(1))]))
    for parameters in PARAMETERS.findall(source):
        names.update(VALUE_PARAMETER.findall(parameters))
    return names


def test_finds_what_is_declared() -> None:
    source = """
    constexpr int width = 3, kHeight = 2;          // constexpr int comment = 1;
    inline constexpr std::array<int, 2> sizes{1, 2};
    static constexpr char zeros[16] = {};
    constexpr auto square = [](int x) { return x * x; };
    constexpr int divide_up(int value, int divisor) { return value / divisor; }
    if constexpr (aligned) {}
    template <typename T, int parts, bool kRound = true, Shape shape>
    """
    assert constants(source) == {"width", "kHeight", "sizes", "zeros", "parts", "kRound", "shape"}


def test_constants_of_compile_time_begin_with_k() -> None:
    found = {str(path.relative_to(ROOT)): constants(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert sum(len(names) for names in found.values()) > 100
    others = {path: sorted(name for name in names if not NAME.fullmatch(name)) for path, names in found.items()}
    assert {path: names for path, names in others.items() if names} == {}
