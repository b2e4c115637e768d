"""What Slurm says of a process, where neither torchrun nor the user says it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import MutableMapping

from tubeletx_train.common.errors import UsageError

_logger = logging.getLogger(__name__)


def adopt_slurm(environment: MutableMapping[str, str] = os.environ) -> None:
    """Put torchrun's variables in place of those of `srun`, which starts a process for each task.

    Nothing is changed where torchrun's are there, or where the job step has a single task.

    Raises:
        UsageError: Slurm's variables contradict each other.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS")
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return
    if tasks is None:  # no step of `srun`: the batch script itself, or none at all
        if int(environment.get("SLURM_NTASKS", "1")) > 1:
            _logger.warning(
                "the Slurm job has %s tasks, but neither srun nor torchrun started this process: it is alone",
                environment["SLURM_NTASKS"],
            )
        return
    if int(tasks) == 1:
        return
    try:
        job, rank, local_rank = (environment[f"SLURM_{name}"] for name in ("JOB_ID", "PROCID", "LOCALID"))
        nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    except KeyError as error:
        raise UsageError(
            f"srun started {tasks} tasks, but {error.args[0]} is not set: start them by torchrun"
        ) from None
    step = environment.get("SLURM_STEP_ID", "0")
    port = 20000 + (int(job) * 64 + (int(step) if step.isdecimal() else 0)) % 40000
    environment["RANK"], environment["WORLD_SIZE"], environment["LOCAL_RANK"] = rank, tasks, local_rank
    environment.setdefault("MASTER_ADDR", first_host(nodes))
    environment.setdefault("MASTER_PORT", str(port))


def first_host(nodes: str) -> str:
    """The first host of a list as Slurm writes it, such as "gpu[003-010,012],big1" (gpu003)."""
    match = re.match(r"([^,\[]+)(?:\[([^\]]*)\])?([^,\[]*)", nodes)
    if match is None:
        raise UsageError(f"SLURM_JOB_NODELIST: got {nodes!r}, needs a list of hosts")
    before, numbers, after = match.groups()
    return before + ("" if numbers is None else re.split("[-,]", numbers)[0]) + after


def requeue() -> None:
    """Ask Slurm to start this process's job anew. Says in the log what comes of it."""
    job, command = os.environ.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if job is None or command is None:
        _logger.warning("run.requeue: this is no Slurm job, or scontrol is not there: nothing is requeued")
        return
    done = subprocess.run([command, "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode:
        _logger.warning("run.requeue: scontrol requeue %s failed: %s", job, " ".join(done.stderr.split()))
    else:
        _logger.info("Slurm job %s is requeued", job)
