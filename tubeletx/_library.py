"""Loads the compiled operators and says what they can run on."""

from __future__ import annotations

import pathlib

import torch

_IMPORT_HELP = """tubeletx: its compiled operators could not be loaded: {error}
Likely causes:
  1. tubeletx is imported from its source folder without having been built; run `pip install --no-build-isolation -e .`
     there, or start Python in another folder.
  2. torch {torch} is older than 2.10, whose stable ABI the operators use; upgrade torch.
  3. the build belongs to another Python than this one; reinstall tubeletx with this interpreter's pip."""

try:
    from tubeletx import _C
except ImportError as error:
    raise ImportError(_IMPORT_HELP.format(error=error, torch=torch.__version__)) from error

# Beside _C, which an editable install keeps apart from the Python sources.
_cuda_library = pathlib.Path(_C.__file__).with_name("_C_cuda.so")
if torch.version.cuda is not None and _cuda_library.exists():
    torch.ops.load_library(_cuda_library)  # type: ignore[no-untyped-call]
    cuda_operators = True
else:
    cuda_operators = False


def build_info() -> dict[str, str]:
    """Versions and settings of the build: keys `version`, `torch`, `cuda`, `cuda_architectures`, `compiler`."""
    return dict(_C.build_info())
