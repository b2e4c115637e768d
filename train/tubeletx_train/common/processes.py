"""How child processes are started, and end."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.context import ForkServerContext


def forkserver_context(preload: str) -> ForkServerContext:
    """Processes forked from a clean server that has a module imported, so that one more costs milliseconds.

    Not forked from the training process: that has threads, and a child would inherit their locks in whatever state.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def exit_with_parent() -> None:
    """Make this child process end when the one that asked for it is gone, however that ended.

    Its parent as the system sees it is the fork server, which in turn lives as long as its children do: without this
    a killed run would leave all of them behind.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "exit_with_parent is for child processes"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()
