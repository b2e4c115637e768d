"""What `optim.precision: auto` costs before a run's first step, as steps of that run.

    python benchmarks/precision_check.py [--device cuda]

The networks, clips and steps are those of the recipes `demo` and `studies/base.yaml`, and R(2+1)D-18 at 16 x 112 x 112;
the clips are noise, since time does not depend on what they show. Check and step alternate, on one machine. With
--faulty ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 must be set: the check must find the fault of torch 2.13 there.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time

import torch
from harness import write_result

from tubeletx_train.common.machine import processor_name
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.precision import compare_gradients, fastest_precision
from tubeletx_train.engine.task import checked_samples
from tubeletx_train.pretrain.build import build_moco, channels_last

ROOT = pathlib.Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
CASES = {
    "demo": ["--config", "demo"],
    "study": ["--config", str(ROOT / "studies" / "base.yaml")],
    "r2plus1d_18, 16 x 112 x 112": ["--optim.batch_size", "8", "--contrast.queue_size", "4096"],
}


def measure(arguments: list[str], repeats: int, device: torch.device) -> dict[str, object]:
    """Median seconds of a check and of a step in bfloat16, and what the check found."""
    config = parse_config(PretrainConfig, [*arguments, "--data.videos", "noise"], prog="precision_check")
    torch.manual_seed(0)
    net = channels_last(build_moco(config).to(device)).train()
    optimization = Optimization(net.query_net, config.optim, total_steps=100, steps_per_epoch=100, device=device)
    optimization.precision = fastest_precision(device)
    data, batch = config.data, config.optim.batch_size
    shape = (batch, 3, data.num_frames, data.crop_size, data.crop_size)
    query, key = (torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last_3d) for _ in range(2))
    few = checked_samples(batch)

    def check() -> object:
        return compare_gradients(
            optimization.precision, net, lambda: net.compare(query[:few], key[:few]).loss.mean(), device
        )

    def step() -> None:
        net.update_key_net()
        with optimization.autocast():
            output = net.compare(query, key)
        optimization.backward(output.loss.mean())
        net.enqueue(output.key)
        optimization.step()

    step()
    found = check()
    seconds: dict[str, list[float]] = {"check": [], "step": []}
    for _ in range(repeats):
        for name, call in (("check", check), ("step", step)):
            since = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - since)
    ratios = [check / step for check, step in zip(seconds["check"], seconds["step"], strict=True)]
    return {
        "batch": batch,
        "checked": few,
        "check_s": statistics.median(seconds["check"]),
        "step_s": statistics.median(seconds["step"]),
        "steps_a_check": statistics.median(ratios),
        "difference": found.difference,
        "fault": found.fault,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--faulty", action="store_true", help="say what is found, and write nothing")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    results = {}
    for name, case in CASES.items():
        results[name] = measure(case, arguments.repeats, device)
        print(f"{name}: {results[name]}", flush=True)
    if not arguments.faulty:
        payload = {"processor": processor_name(device), "precision": fastest_precision(device), "cases": results}
        print(write_result("cuda/precision_check" if device.type == "cuda" else "precision_check", payload))


if __name__ == "__main__":
    main()
