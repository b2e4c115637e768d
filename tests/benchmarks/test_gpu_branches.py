"""What the benchmark scripts do on a GPU, with the host standing in for it: smaller sizes, meaningless times."""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
from collections.abc import Callable

import pytest

Run = Callable[..., dict]


@pytest.fixture
def run(gpu: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a script's command line with changed constants of its module, and returns what it wrote."""

    def call(name: str, *arguments: str, result: str, **constants: object) -> dict:
        script = importlib.import_module(name)
        for constant, value in constants.items():
            monkeypatch.setattr(script, constant, value)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        script.main()
        return json.loads((gpu / "cuda" / f"{result}.json").read_text())

    return call


@pytest.fixture
def small(gpu: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls everything once, and leaves out the floors, which are large."""

    def once(candidates: dict[str, Callable[[], object]], repeats: int, calls: int = 20) -> dict[str, float]:
        for candidate in candidates.values():
            candidate()
        return dict.fromkeys(candidates, 1e-3)

    stand_ins = {"measure_gpu": once, "copy_bandwidth": lambda: 1e12, "product_rate": lambda _: 1e12}
    for script in map(importlib.import_module, ("harness", "infonce", "paste", "sample")):
        for name, value in stand_ins.items():
            if hasattr(script, name):
                monkeypatch.setattr(script, name, value)


SHAPES = ((3, 40, 16), (2, 70, 8))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("options", "result", "names"),
    [
        (["--headline"], "infonce", {"eager", "attention", "tubeletx, float32 query", "tubeletx, cached", "forward"}),
        (["--compiled"], "infonce_compiled", {"compiled", "tubeletx, cached", "forward"}),
        ([], "infonce_all", {"eager", "attention", "tubeletx, cached", "forward"}),
    ],
)
def test_infonce(run: Run, options: list[str], result: str, names: set[str]) -> None:
    options = ["--device", "cuda", "--repeats", "1", *options]
    written = run("infonce", *options, result=result, SHAPES=SHAPES, HEADLINE=SHAPES, CALLS=2)
    assert len(written["results"]) == (4 if result == "infonce_all" else 2)
    for row in written["results"]:
        assert row["seconds"].keys() >= names | {"tubeletx"}
        assert max(row["deviations"].values()) < 0.02


@pytest.mark.usefixtures("small")
def test_a_wrong_gradient_is_an_error_after_the_result_is_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    infonce = importlib.import_module("infonce")
    monkeypatch.setattr(infonce, "ours", lambda query, key, queue: (query * key).sum())
    with pytest.raises(SystemExit, match="the gradient is wrong"):
        run("infonce", "--device", "cuda", "--headline", "--repeats", "1", result="infonce", HEADLINE=SHAPES, CALLS=2)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("options", [[], ["--compiled"]])
def test_paste(run: Run, options: list[str]) -> None:
    result = "paste_compiled" if options else "paste"
    written = run("paste", "--device", "cuda", *options, result=result, GPU_BATCH=2, GPU_SETS=2, GPU_CALLS=2, FRAMES=2)
    peers = {"grid_sample", "sampler and grid_sample"}
    assert written["ratios"].keys() == ({f"{peer}, compiled" for peer in peers} if options else peers)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("options", [[], ["--compiled"]])
def test_sample(run: Run, options: list[str]) -> None:
    written = run(
        "sample", "--device", "cuda", *options, result="sample_compiled" if options else "sample", BATCH=2, CALLS=2
    )
    assert written["batches"].keys() == {"1", "2", "1024"}


def test_a_peer_that_cannot_be_captured_is_left_out(gpu: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    harness = importlib.import_module("harness")

    def refuse() -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    seconds = harness.measure_replayed({"ours": [lambda: None], "peer": [refuse]}, repeats=1)
    assert seconds.keys() == {"ours"}
    assert capsys.readouterr().out == "peer: cannot be captured: operation not permitted when stream is capturing\n"
