import errno
import os
import threading

import pytest

from tubeletx_train.common.errors import CommandError
from tubeletx_train.common.files import explain_full_disk


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, 0), (errno.EIO, 1)])
def test_a_thread_that_finds_the_disk_full_leaves_it_to_the_one_that_asked(number, told, monkeypatch):
    """As TensorBoard's does, which then raises its error in the main thread."""
    by_threads = []
    monkeypatch.setattr(threading, "excepthook", by_threads.append)

    def write():
        raise OSError(number, os.strerror(number))

    @explain_full_disk("runs/a", "; again")
    def run():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CommandError, match="cannot write to runs/a: No space left on device; again"):
        run()
    assert len(by_threads) == told
    assert threading.excepthook == by_threads.append
