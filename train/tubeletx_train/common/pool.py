"""Work on many items in processes that one of them may crash or hang."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from tubeletx_train.common.errors import LoaderError
from tubeletx_train.common.processes import ctrl_c_held, exit_with_parent, forkserver_context

# Seconds for a process to start; it imports torch from what may be a slow network disk.
_START_TIMEOUT = 120.0
_SIGN_SECONDS = 1.0  # between two signs of life

Item = TypeVar("Item")
Result = TypeVar("Result")
SignOfLife = Callable[[], None]


@dataclass(frozen=True)
class Lost:
    """What comes of an item whose process did not live to answer.

    Attributes:
        exit_code: Of the process; None where it hung and was killed.
        timeout: Seconds after which it counted as hung.
    """

    exit_code: int | None
    timeout: float

    def reason(self, program: str) -> str:
        """In one line what happened to the program that worked on the item."""
        if self.exit_code is None:
            return f"hung the {program} for {self.timeout:g} s"
        return f"crashed the {program} (exit code {self.exit_code})"


def _serve(connection: Connection, work: Callable[[Any, SignOfLife], Any]) -> None:
    """Body of a process: items in, results out, until it is killed."""
    exit_with_parent()
    # Decoders write their own complaints to standard error, where they would tear the progress bar.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    told = time.monotonic()

    def sign_of_life() -> None:
        nonlocal told
        if time.monotonic() - told > _SIGN_SECONDS:
            told = time.monotonic()
            connection.send(None)

    connection.send(None)
    while True:
        connection.send((work(connection.recv(), sign_of_life),))


@dataclass
class _Worker(Generic[Item, Result]):
    """A process that may be lost at any time."""

    work: Callable[[Item, SignOfLife], Result]
    timeout: float
    preload: str
    item: Item | None = None
    deadline: float = 0.0
    connection: Connection = field(init=False)
    process: BaseProcess = field(init=False)

    def __post_init__(self) -> None:
        context = forkserver_context(self.preload)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.work), daemon=True)
        with ctrl_c_held():
            self.process.start()
        theirs.close()  # so that the death of the process reads as end of file here
        started = False
        try:
            if self.connection.poll(_START_TIMEOUT):
                self.connection.recv()
                started = True
        except (EOFError, ConnectionError):
            pass
        if not started:
            self.close()
            raise LoaderError(
                "a process that looks at videos did not start (a script that starts runs must do so below "
                "if __name__ == '__main__', as child processes import it)"
            )

    def submit(self, item: Item) -> None:
        self.item, self.deadline = item, time.monotonic() + self.timeout
        self.connection.send(item)

    def collect(self) -> Result | Lost | None:
        """What comes of the item, None while it is not there yet. After `Lost` the process is to be replaced."""
        try:
            while self.connection.poll():
                answer: tuple[Result] | None = self.connection.recv()
                if answer is not None:
                    return answer[0]
                self.deadline = time.monotonic() + self.timeout
        except (EOFError, ConnectionError):
            self.process.join()
            return Lost(self.process.exitcode, self.timeout)
        if time.monotonic() > self.deadline:
            self.close()
            return Lost(None, self.timeout)
        return None

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def work_through(
    items: Iterable[Item],
    work: Callable[[Item, SignOfLife], Result],
    workers: int,
    timeout: float,
    preload: str,
) -> Iterator[tuple[Item, Result | Lost]]:
    """Work on items in child processes that may crash or hang; they end with this process.

    Args:
        items: What is worked on; they are sent to the children.
        work: Takes an item, and a function that it calls now and then while it takes long; must be importable by a
            child process, and so its results, never None.
        workers: Child processes.
        timeout: Seconds for one item, or from one sign of life to the next, after which its process is killed.
        preload: A module that the children have imported as they start.

    Yields:
        (item, result) in the order they come in.

    Raises:
        LoaderError: A child does not start.
    """
    pending = iter(items)
    pool: list[_Worker[Item, Result]] = []
    try:
        for item in itertools.islice(pending, max(workers, 1)):
            pool.append(_Worker(work, timeout, preload))
            pool[-1].submit(item)
        busy = list(pool)
        while busy:
            next_deadline = min(worker.deadline for worker in busy)
            wait([worker.connection for worker in busy], max(next_deadline - time.monotonic(), 0.0) + 0.01)
            for worker in list(busy):
                result = worker.collect()
                if result is None:
                    continue
                assert worker.item is not None
                yield worker.item, result
                busy.remove(worker)
                upcoming = next(pending, None)
                if upcoming is None:
                    continue
                if isinstance(result, Lost):
                    worker.close()
                    pool.remove(worker)
                    worker = _Worker(work, timeout, preload)
                    pool.append(worker)
                worker.submit(upcoming)
                busy.append(worker)
    finally:
        for worker in pool:
            worker.close()
