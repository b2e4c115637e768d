from __future__ import annotations

import time

from tubeletx_train.common.pool import Lost, work_through


def work(item: str, sign_of_life) -> int:
    """Stands for a long piece of work: silent, or telling now and then that it goes on."""
    if item == "silent":
        time.sleep(600)
    if item == "telling":
        for _ in range(40):
            time.sleep(0.1)
            sign_of_life()
    return len(item)


def test_what_takes_long_lives_while_it_tells_so():
    found = dict(work_through(["a", "telling", "silent", "bb"], work, 2, 2.5, "tubeletx_train.data"))
    assert {item: result for item, result in found.items() if item != "silent"} == {"a": 1, "telling": 7, "bb": 2}
    assert found["silent"] == Lost(None, 2.5)
    assert found["silent"].reason("decoder") == "hung the decoder for 2.5 s"
    assert Lost(-6, 2.5).reason("decoder") == "crashed the decoder (exit code -6)"
