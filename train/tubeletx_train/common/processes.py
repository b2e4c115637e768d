"""How child processes are started, and end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from types import FrameType


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


@contextmanager
def ctrl_c_held() -> Iterator[None]:
    """Context of what starts processes: Ctrl-C acts when they are started.

    In the middle it would take from a child what it is about to open (semaphores by their names, its end of a pipe),
    and the child would say so in a traceback.
    """
    if threading.current_thread() is not threading.main_thread():  # signals reach the main one alone
        yield
        return
    came = False

    def hold(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal came
        came = True

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


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
