"""Errors that end a command with one line."""


class CommandError(Exception):
    """The message says all; a command prints it, without a traceback, and exits with `exit_code`.

    Attributes:
        exit_code: 1 where a run broke down, 2 where the user can mend the input or the usage.
    """

    exit_code = 1


class LoaderError(CommandError):
    """A data process died or gave no answer in time."""


class UsageError(CommandError):
    """The user can mend it."""

    exit_code = 2
