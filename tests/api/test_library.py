import re
import shutil
import subprocess
import sys
import types
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


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("queue: got shape (4, 5), needs (K, D) = (*, 3)"), ValueError),
        (RuntimeError("height, width: got 3, 0 for 1 clips"), ValueError),
        (ValueError("queue: got shape (4, 5)"), ValueError),
        (RuntimeError("crop_patches: too much work for one call"), RuntimeError),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] can't allocate memory"), RuntimeError),
        (RuntimeError("CUDA error: device-side assert triggered"), RuntimeError),
        (NotImplementedError("Could not run 'tubeletx::crop_patches'"), NotImplementedError),
    ],
)
def test_refusals_are_value_errors_under_a_torch_that_forgets_their_kind(error, kind, monkeypatch):
    def refuse(*arguments):
        assert arguments == (1, 2)
        raise error

    crop_patches = types.SimpleNamespace(default=refuse)
    monkeypatch.setattr(torch.ops, "tubeletx", types.SimpleNamespace(crop_patches=crop_patches))
    monkeypatch.setattr(_library, "_LOSES_THE_KIND_OF_ERRORS", True)
    with pytest.raises(kind, match=f"^{re.escape(str(error))}$") as caught:
        _library.operator("crop_patches")(1, 2)
    assert type(caught.value) is kind
