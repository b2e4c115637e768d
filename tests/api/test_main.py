import subprocess
import sys

import pytest
import torch

from tubeletx import __main__ as command
from tubeletx import _self_test

CPU = torch.device("cpu")


def test_says_what_runs_and_passes():
    answer = subprocess.run([sys.executable, "-m", "tubeletx"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    for name in ("tubeletx:", "built:", "torch:", "operators run on:", "self-test:", "a pair, cpu:"):
        assert f"\n{name}" in "\n" + answer.stdout
    assert "passed" in answer.stdout
    assert not answer.stderr


@pytest.mark.parametrize("check", _self_test.CHECKS)
def test_checks_notice_a_wrong_operator(check, monkeypatch):
    check(CPU)

    def distorted(operator):
        def call(*arguments, **keywords):
            result = operator(*arguments, **keywords)
            return (result[0] * 1.01, *result[1:]) if isinstance(result, list | tuple) else result * 1.01

        return call

    class Pair(_self_test.TubeletPair):
        def forward(self, *arguments):
            first, *others = super().forward(*arguments)
            first[0, 0, 0, 0, 0] += 1
            return first, *others

    for name in ("paste_tubelets", "interpolate_keyframes", "queue_infonce"):
        monkeypatch.setattr(_self_test, name, distorted(getattr(_self_test, name)))
    monkeypatch.setattr(_self_test, "TubeletPair", Pair)
    with pytest.raises(AssertionError, match=r"is off by|checksum"):
        check(CPU)


@pytest.mark.parametrize("error", [AssertionError("paste_tubelets is off by 3"), RuntimeError("no kernel image")])
def test_fails_with_advice(error, monkeypatch, capsys):
    def check(device):
        raise error

    monkeypatch.setattr(command, "CHECKS", (check,))
    assert command.main() == 1
    output = capsys.readouterr()
    assert "failed" in output.out
    assert str(error) in output.err
    assert "reinstall" in output.err


def test_a_gpu_that_the_build_leaves_idle_is_a_problem(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command, "cuda_operators", False)
    assert [problem for problem in command.problems() if "TUBELETX_CUDA=on" in problem]
