"""What `optim.precision: auto` costs before a run's first step, as steps of that run.

    python benchmarks/precision_check.py [--device cuda]

The networks, views and steps are those of the recipes `demo` and `studies/base.yaml`, and R(2+1)D-18 at
16 x 112 x 112; the clips are noise, since time does not depend on what they show. Check and step alternate, on one
machine; a step keeps the layers in float32 that the first check finds at fault, as the run's do. With --faulty
ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 must be set, but on a processor of that kind: the check must find the fault of torch
2.13 there.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time

import torch
from harness import write_result
from torch import Tensor
from train_step import drawn

from tubeletx_train.common.machine import processor_name
from tubeletx_train.config.parse import parse_config
from tubeletx_train.config.pretrain import PretrainConfig
from tubeletx_train.engine.optimization import Optimization
from tubeletx_train.engine.precision import Comparison, compare_gradients, fastest_precision
from tubeletx_train.engine.task import checked_samples
from tubeletx_train.pretrain.build import build_moco, channels_last
from tubeletx_train.pretrain.views import PairViews

ROOT = pathlib.Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
CASES = {
    "demo": ["--config", "demo"],
    "study": ["--config", str(ROOT / "studies" / "base.yaml")],
    "r2plus1d_18, 16 x 112 x 112": ["--optim.batch_size", "8", "--contrast.queue_size", "4096"],
}


def measure(arguments: list[str], repeats: int, device: torch.device) -> dict[str, object]:
    """Median seconds of a check and of a step in the precision that it leaves, and what it found."""
    config = parse_config(PretrainConfig, [*arguments, "--data.videos", "noise"], prog="precision_check")
    torch.manual_seed(0)
    net = channels_last(build_moco(config).to(device)).train()
    optimization = Optimization(net.query_net, config.optim, total_steps=100, steps_per_epoch=100, device=device)
    batch = config.optim.batch_size
    make_views = PairViews(config.contrast, config.tubelets, config.color, seed=config.run.seed).to(device)
    views = make_views(next(drawn(config, pin_memory=False)).to(device))
    every, few = views.rows(slice(batch)), views.rows(slice(checked_samples(batch)))

    def loss() -> Tensor:
        return net.compare(*few).loss.mean()

    def check() -> Comparison:
        return compare_gradients(fastest_precision(device), net, loss, device)

    def step() -> None:
        net.update_key_net()
        with optimization.autocast():
            output = net.compare(*every)
        optimization.backward(output.loss.mean())
        net.enqueue(output.key)
        optimization.step()

    found = check()
    optimization.settle_precision(net, lambda: loss)
    step()
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
        "checked": checked_samples(batch),
        "check_s": statistics.median(seconds["check"]),
        "step_s": statistics.median(seconds["step"]),
        "steps_a_check": statistics.median(ratios),
        "precision_of_steps": str(optimization.settled),
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
