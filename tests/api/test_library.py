import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tubeletx
from tubeletx import _C, _library

ERROR = ImportError("no such file")


@pytest.mark.parametrize("version", ["2.10.0", "2.11.0+cu130", "2.13.0+cpu", "3.0.1", "2.100.0a0+git"])
def test_a_torch_that_is_new_enough_is_not_called_old(version):
    text = _library._help(ERROR, version)
    assert "is older than" not in text
    assert f"under torch {version}: no such file" in text
    assert re.findall(r"^  (\d)\. ", text, flags=re.MULTILINE) == ["1", "2"]


@pytest.mark.parametrize("version", ["2.9.1", "2.9.1+cpu", "1.13.1"])
def test_an_old_torch_is_the_first_cause(version):
    assert f"  1. torch {version} is older than 2.10" in _library._help(ERROR, version)


def test_operators_that_cannot_be_loaded_end_in_help(tmp_path):
    """A build whose operators are cut short: the loader's error arrives with the causes."""
    package = tmp_path / "tubeletx"
    shutil.copytree(Path(tubeletx.__file__).parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(_C.__file__, package)
    (package / "libtubeletx_cpu.so").write_bytes(b"\x7fELF")
    # -S: without the hooks of an editable install, which would find the real package.
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path(torch.__file__).parents[1])!r}]; import tubeletx"
    answer = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "ImportError: tubeletx: its compiled operators could not be loaded under torch" in answer.stderr
    assert "libtubeletx_cpu.so" in answer.stderr
    assert "stopped halfway" in answer.stderr
