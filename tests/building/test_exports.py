"""What the built libraries show of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tubeletx import _C

LIBRARIES = sorted(Path(_C.__file__).parent.glob("*.so"))


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_a_library_exports_what_python_looks_up_and_no_more(library):
    """Exported, a C++ runtime that the compiler links in mixes with torch's: messages lost their numbers, or worse."""
    with library.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym")
        defined = {symbol.name for symbol in symbols.iter_symbols() if symbol["st_shndx"] != "SHN_UNDEF"}
    assert defined == ({"PyInit__C"} if library.name.startswith("_C") else set())
