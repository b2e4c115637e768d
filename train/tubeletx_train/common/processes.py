"""How child processes are started, and end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext


def forkserver_context(preload: str) -> ForkServerContext:
    """Processes forked from a clean server that has a module imported, so that one more costs milliseconds.

    Not forked from the training process: that has threads, and a child would inherit their locks in whatever state.
    Ctrl-C, which a terminal sends to all of them, is for the main process to answer: it ends the others.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    resource_tracker.ensure_running()  # first, as starting it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # what it starts inherits the mask
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
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
