"""Loads the compiled operators and says what they can run on."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable
from typing import Any

import torch

_OLDEST_TORCH = "2.10"

_NOT_BUILT = (
    "tubeletx is imported from its source folder without having been built; run "
    "`pip install --no-build-isolation -e .` there, or start Python in another folder."
)
_OTHER_BUILD = (
    "the build belongs to another Python than this one, or was stopped halfway; reinstall tubeletx with this "
    "interpreter's pip."
)
_OLD_TORCH = "torch {torch} is older than {oldest}, whose stable ABI the operators use; upgrade torch."


def _help(error: Exception, torch_version: str = torch.__version__) -> str:
    """Why the operators may not have loaded under `torch_version`; only causes that are possible there."""
    causes = [_NOT_BUILT, _OTHER_BUILD]
    if torch.torch_version.TorchVersion(torch_version) < _OLDEST_TORCH:  # compares as versions, not as text
        causes.insert(0, _OLD_TORCH.format(torch=torch_version, oldest=_OLDEST_TORCH))
    lines = "".join(f"\n  {number}. {cause}" for number, cause in enumerate(causes, start=1))
    return (
        f"tubeletx: its compiled operators could not be loaded under torch {torch_version}: {error}\n"
        f"Likely causes:{lines}"
    )


try:
    from tubeletx import _C

    # Beside _C, which an editable install keeps apart from the Python sources.
    _folder = pathlib.Path(_C.__file__).parent
    torch.ops.load_library(_folder / "libtubeletx_cpu.so")  # type: ignore[no-untyped-call]
    cuda_operators = torch.version.cuda is not None and (_folder / "libtubeletx_cuda.so").exists()
    if cuda_operators:
        torch.ops.load_library(_folder / "libtubeletx_cuda.so")  # type: ignore[no-untyped-call]
except (ImportError, OSError) as error:  # OSError: the loader's word for a library that lacks something
    raise ImportError(_help(error)) from error


def _loses_the_kind_of_errors() -> bool:
    """Whether torch makes a RuntimeError of std::invalid_argument, as 2.15 does; earlier ones make a ValueError."""
    scalar = torch.empty((), device="cpu")
    try:
        torch.ops.tubeletx.enqueue_(scalar, scalar, scalar)
    except RuntimeError:
        return True
    except ValueError:
        return False
    raise AssertionError("enqueue_ took a queue without axes")


_LOSES_THE_KIND_OF_ERRORS = _loses_the_kind_of_errors()


def _is_refusal(message: str) -> bool:
    """Whether it begins with an argument; others begin with an operator, or are torch's."""
    begin = re.match(r"([a-z]\w*)(, [a-z]\w*)*: ", message)
    return begin is not None and not hasattr(torch.ops.tubeletx, begin[1])


def operator(name: str, overload: str = "default") -> Callable[..., Any]:
    """The compiled operator, which refuses an argument by a ValueError under every torch."""
    call: Callable[..., Any] = getattr(getattr(torch.ops.tubeletx, name), overload)
    if not _LOSES_THE_KIND_OF_ERRORS:
        return call

    def call_and_refuse(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return call(*arguments)
        try:
            return call(*arguments)
        except RuntimeError as error:
            if type(error) is RuntimeError and _is_refusal(str(error)):
                raise ValueError(str(error)) from None
            raise

    return call_and_refuse


def build_info() -> dict[str, str]:
    """Versions and settings of the build: keys `version`, `torch`, `cuda`, `cuda_architectures`, `compiler`."""
    return dict(_C.build_info())
