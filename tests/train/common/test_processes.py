import os
import signal
import subprocess
import sys

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
