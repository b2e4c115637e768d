import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from tubeletx_train.common.processes import forkserver_context

def child():
    os.write(1, b"alive\\n")

if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)
    process = forkserver_context("slow_to_import").Process(target=child)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_ctrl_c_while_the_server_imports_is_the_main_process_to_answer(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "slow_to_import.py").write_text(
        "import os, time\nos.write(1, b'importing\\n')\ntime.sleep(2)\nos.write(1, b'imported\\n')\n"
    )
    program = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "importing\n"
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does
    output, errors = program.communicate(timeout=100)
    assert (output, errors, program.returncode) == ("imported\nalive\n", "", 0)


INTERRUPTED = """
import os, signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from tubeletx_train.common.processes import ctrl_c_held, forkserver_context

connect = forkserver.connect_to_new_process

def connect_at_ctrl_c(fds):
    os.killpg(os.getpgid(0), signal.SIGINT)
    return connect(fds)

forkserver.connect_to_new_process = connect_at_ctrl_c

def work():
    return 1

if __name__ == "__main__":
    executor = ProcessPoolExecutor(2, mp_context=forkserver_context("os"))
    try:
        with ctrl_c_held():
            found = [executor.submit(work) for _ in range(4)]
            os.write(1, b"started\\n")
    except KeyboardInterrupt:
        os.write(1, b"interrupted\\n")
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
"""


@pytest.mark.usefixtures("signals_of_a_terminal")
def test_ctrl_c_while_an_executor_starts_its_processes_waits_for_them(tmp_path):
    (tmp_path / "program.py").write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("started\ninterrupted\n", "", 0)
