"""Errors that end a command with one line."""


class UsageError(Exception):
    """The user can mend it: a command prints the message and exits with code 2."""
