import pytest

from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.slurm import adopt_slurm, first_host

STEP = {
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
}


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("gpu3", "gpu3"), ("gpu[003-010,012],big1", "gpu003"), ("a,b", "a"), ("n[7,9]-ib", "n7-ib"), ("x-1[2-3]", "x-12")],
)
def test_the_first_host_of_a_list(nodes, host):
    assert first_host(nodes) == host


def test_tasks_of_srun_are_the_processes_of_a_run():
    environment = dict(STEP)
    adopt_slurm(environment)
    assert {name: environment[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")} == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu07",
    }
    other = STEP | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    adopt_slurm(other)
    assert other["MASTER_PORT"] == environment["MASTER_PORT"]
    assert 1024 < int(other["MASTER_PORT"]) < 65536


def test_torchrun_goes_first_and_a_single_task_is_alone(caplog):
    for environment in (STEP | {"RANK": "0", "WORLD_SIZE": "2"}, STEP | {"SLURM_STEP_NUM_TASKS": "1"}, {}):
        before = dict(environment)
        adopt_slurm(environment)
        assert environment == before
    assert not caplog.records


def test_a_process_that_srun_did_not_start_is_told_that_it_is_alone(caplog):
    environment = {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}
    adopt_slurm(environment)
    assert "RANK" not in environment
    assert "the Slurm job has 4 tasks, but neither srun nor torchrun started this process" in caplog.text


def test_what_is_missing_is_named():
    environment = {name: value for name, value in STEP.items() if name != "SLURM_LOCALID"}
    with pytest.raises(UsageError, match="srun started 8 tasks, but SLURM_LOCALID is not set"):
        adopt_slurm(environment)
