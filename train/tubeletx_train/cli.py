"""The console command: `tubeletx-train COMMAND`."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

from tqdm import tqdm

from tubeletx_train.common.errors import CommandError, UsageError
from tubeletx_train.common.files import NO_ROOM
from tubeletx_train.common.slurm import adopt_slurm

_PROG = "tubeletx-train"

# Each is a module of `tubeletx_train.commands`, imported when it runs, so that `recipes` and `--help` answer at once.
_COMMANDS = {
    "manifest": "list the videos of a data set, from its published lists or a folder",
    "check": "find unreadable videos, and measure the decode rate",
    "shards": "pack videos into tar shards",
    "pretrain": "train a video encoder without labels",
    "preview": "draw positive pairs of a folder of videos",
    "finetune": "train an encoder further with labels, and test it",
    "evaluate": "test a fine-tuned network, or judge frozen features",
    "table": "collect finished runs into the paper's tables",
    "retrieval": "measure a checkpoint by retrieval of held-out pairs",
    "probe": "read motions or classes from a checkpoint's frozen features",
    "demo": "pretrain for minutes on a few real videos, and show what was learned",
    "attention": "draw where networks look, several side by side",
    "count": "train and test repetition counting, or count the repetitions of any video",
    "export": "write a checkpoint's encoder for other code, with a model card",
    "recipes": "list the recipes, print one, or print the commands that run a table of the paper",
}


def _usage() -> str:
    lines = [f"usage: {_PROG} COMMAND [options]", "", "commands:"]
    lines += [f"  {name:10} {summary}" for name, summary in _COMMANDS.items()]
    return "\n".join([*lines, "", f"`{_PROG} COMMAND --help` lists a command's options."])


class _LogHandler(logging.Handler):
    """Writes to standard error on lines of their own, also while a progress bar is shown there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # as handlers do: a log that cannot be written must not stop a run
            self.handleError(record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command line without the program's name; `sys.argv` by default.

    Returns:
        Exit code: 0, 1 if training broke down, 2 for input or usage that the user can mend, 128 + a signal's number.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name, *rest = arguments
    adopt_slurm()
    # Of several processes one tells what happens; all say what goes wrong.
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname).1s %(message)s", handlers=[_LogHandler()])
    try:
        if name not in _COMMANDS:
            from tubeletx_train.config.recipes import nearest

            raise UsageError(f"unknown command {name!r}{nearest(name, _COMMANDS)}")
        command = importlib.import_module(f"tubeletx_train.commands.{name}")
        code: int = command.main(rest, f"{_PROG} {name}")
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = f" {error.filename}" if error.filename else ""
        print(f"{_PROG}: error: cannot write{where}: {error.strerror}", file=sys.stderr)
        return 1
    except CommandError as error:
        print(f"{_PROG}: error: {error}", file=sys.stderr)
        return error.exit_code
