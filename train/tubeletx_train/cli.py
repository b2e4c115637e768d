"""The console command: `tubeletx-train COMMAND`."""

from __future__ import annotations

import io
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence

from tqdm import tqdm

from tubeletx_train.commands import PROG, find_command
from tubeletx_train.common.errors import CommandError
from tubeletx_train.common.files import NO_ROOM
from tubeletx_train.common.slurm import adopt_slurm


class _LogHandler(logging.Handler):
    """Writes to standard error on lines of their own, also while a progress bar is shown there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # as handlers do: a log that cannot be written must not stop a run
            self.handleError(record)


def _unread_outputs() -> list[int]:
    """Of standard output and standard error those that are pipes which nobody reads any more."""
    poll = select.poll()
    for output in (1, 2):
        poll.register(output, 0)
    return [output for output, event in poll.poll(0) if event & select.POLLERR]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command line without the program's name; `sys.argv` by default.

    Returns:
        Exit code: 0, 1 if training broke down, 2 for input or usage that the user can mend, 128 + a signal's number.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    adopt_slurm()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that the locale cannot write
    # Of several processes one tells what happens; all say what goes wrong.
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    # Of other packages only what may be wrong: matplotlib and torch tell of their caches.
    logging.basicConfig(level=logging.WARNING, format="%(levelname).1s %(message)s", handlers=[_LogHandler()])
    logging.getLogger("tubeletx_train").setLevel(level)
    try:
        found = find_command(arguments)
        if isinstance(found, str):
            print(found, flush=True)
            return 0 if arguments and arguments[-1].startswith("-") else 2
        command, rest = found
        code = command.run(command.parse(rest))
        print(end="", flush=True)
        return code
    except BrokenPipeError:
        unread = _unread_outputs()
        if not unread:
            raise
        # Who read has enough, as `| head` does. What is still buffered goes nowhere, without an error at the exit.
        for output in unread:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if isinstance(error, PermissionError) and error.filename:
            print(f"{PROG}: error: {error.filename}: {error.strerror}", file=sys.stderr)
            return 2
        if error.errno not in NO_ROOM:
            raise
        where = f" {error.filename}" if error.filename else ""
        print(f"{PROG}: error: cannot write{where}: {error.strerror}", file=sys.stderr)
        return 1
    except CommandError as error:
        print(f"{PROG}: error: {error}", file=sys.stderr)
        return error.exit_code
