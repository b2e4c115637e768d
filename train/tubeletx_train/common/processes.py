"""How the data side starts processes of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.context import ForkServerContext


def forkserver_context() -> ForkServerContext:
    """Processes forked from a clean server that has this package imported, so that one more costs milliseconds.

    Not forked from the training process: that has threads, and a child would inherit their locks in whatever state.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tubeletx_train.data"])
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
