"""What the demo learns, over several seeds: retrieval of pairs, the motion probe, and the gymnast where there is one.

A run that is in its folder already is not made again, so that a stopped command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import write_result


def run(seed: int, folder: Path) -> dict[str, Any]:
    """The `results.json` of a seed."""
    path = folder / "results.json"
    if not path.is_file():
        command = [sys.executable, "-m", "tubeletx_train", "demo", "--seed", str(seed), "--output", str(folder)]
        subprocess.run(command, check=True)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


# Parts of the demo's `results.json` that read labels out of features; the last stands there where pybullet does.
_READOUTS = {"motion_probe": "motion probe", "gymnastics": "gymnastics"}


def figures(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Shares of the trained and the untrained network, by name."""
    shares: dict[str, dict[str, float]] = {}
    for network in ("trained", "untrained"):
        found = {name: content["retrieval"][network][name] for name in ("r@1", "r@5")}
        for part, name in _READOUTS.items():
            if part in content:
                found[f"{name}, linear"] = content[part][network]["linear"]
                found[f"{name}, 10-NN"] = content[part][network]["knn"]
        shares[network] = found
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of the runs demo-SEED")
    arguments = parser.parse_args()
    contents = {seed: run(seed, arguments.output / f"demo-{seed}") for seed in arguments.seeds}
    by_seed = {f"seed {seed}": figures(content)["trained"] for seed, content in contents.items()}
    untrained = [figures(content)["untrained"] for content in contents.values()]
    trained = list(by_seed.values())
    ranges = {
        name: {"lowest": min(row[name] for row in trained), "highest": max(row[name] for row in trained)}
        for name in trained[0]
        if all(name in row for row in trained)
    }
    for name, ends in ranges.items():
        print(f"{name}: {ends['lowest']:.1%} to {ends['highest']:.1%}")
    made = {name: sorted({str(content[name]) for content in contents.values()}) for name in ("processor", "precision")}
    payload = {
        "trained": by_seed,
        "untrained": {f"seed {seed}": row for seed, row in zip(contents, untrained, strict=True)},
        "ranges": ranges,
        "made_on": {name: ", ".join(values) for name, values in made.items()},
        "steps": contents[arguments.seeds[0]]["steps"],
    }
    print("written:", write_result("demo", payload))


if __name__ == "__main__":
    main()
