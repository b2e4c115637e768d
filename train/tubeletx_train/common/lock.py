"""A lock on a folder, so that no two processes make the same thing in it."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tubeletx_train.common.errors import UsageError

LOCK_FILE = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_logger = logging.getLogger(__name__)


@contextmanager
def locked_folder(folder: Path, use: str, option: str = "--output") -> Iterator[None]:
    """Hold a folder, which exists, for this process.

    The kernel keeps the lock and gives it up with the process, however that ends; over NFS the server does, for all
    machines. The file itself stays and only names the owner.

    Args:
        folder: What is held.
        use: What becomes of it, as in "is being trained into".
        option: By which another folder is chosen.

    Raises:
        UsageError: Another process holds it; the message names host and process.
    """
    path = folder / LOCK_FILE
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder} is being {use} by {_owner(path)}; choose another {option}, or wait for its end"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _logger.warning("%s: the file system knows no locks (%s): start nothing else there", folder, error.strerror)
        file.truncate(0)
        record = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.write(json.dumps(record) + "\n")
        file.flush()
        yield


def _owner(path: Path) -> str:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return f"process {record['process']} on {record['host']} since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
