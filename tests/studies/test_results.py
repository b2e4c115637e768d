import json
import math

import numpy as np
import pytest
from scipy import stats

from studies.__main__ import main
from studies.arms import FULL, arm_recipe
from studies.queues import age_gaps, queue_table
from studies.report import write_report
from studies.results import Estimate, Results
from tubeletx_train.config.tree import merge
from tubeletx_train.data import VideoRecord, write_manifest
from tubeletx_train.evaluation.motions import MOTION_NAMES, MOTION_PAIRS


def result_of(arm, seed, linear):
    """What a run's result holds, at an accuracy of choice."""
    probe = {"linear": linear, "knn": linear / 2, "chance": 0.05}
    probe |= {"confusion": np.eye(len(MOTION_NAMES), dtype=int).tolist()}
    probe |= {"pairs": {" / ".join(pair): 0.5 + linear / 2 for pair in MOTION_PAIRS}}
    stages = {
        name: {"linear": share * linear, "knn": 0.0, "chance": 0.05} for name, share in (("stem", 0.5), ("layer1", 1.1))
    }
    return {
        "arm": arm,
        "seed": seed,
        "config": merge(arm_recipe(arm), {"run": {"output": "/nowhere/run"}}),
        "commit": "0123456789abcdef+" if arm == "static" else "0123456789abcdef",
        "processor": "a processor",
        "probe": probe,
        "stages": stages,
        "along": [{"step": step, "linear": linear * step / 300, "knn": 0.0} for step in (100, 300)],
        "retrieval": {"r@1": linear / 4},
        "labelled": {
            "actions": {
                "stem": {"linear": 0.1, "knn": 0.1, "chance": 0.25},
                "layer1": {"linear": linear / 8, "knn": 0.2, "chance": 0.25},
            }
        },
    } | ({"ceiling": 0.93} if arm == "supervised" else {})


def accuracy_of(arm, seed):
    base = {"temporal": 0.06, "static": 0.1, "nonlinear": 0.3, FULL: 0.5}.get(arm, 0.05)
    return base + 0.01 * (seed % 3)


def test_estimates_against_scipy():
    values = [0.2, 0.26, 0.31]
    found = Estimate.of(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert str(found) == "25.7 ± 13.7"
    for few in ([0.5], [0.5, 0.5]):
        assert str(Estimate.of(few)) == "50.0"
        assert not Estimate.of(few).leaves_out_zero


def test_differences_are_taken_seed_by_seed():
    generator = np.random.default_rng(3)
    seeds = range(5)
    common = generator.uniform(0, 1, len(seeds))
    first = {seed: common[seed] + generator.normal(0.1, 0.01) for seed in seeds}
    second = {seed: common[seed] + generator.normal(0, 0.01) for seed in seeds}
    runs = [result_of(FULL, seed, value) for seed, value in first.items()]
    runs += [result_of("temporal", seed, value) for seed, value in (second | {99: 1e6}).items()]
    results = Results(runs)
    found = results.difference(FULL, "temporal")
    reference = stats.ttest_rel(list(first.values()), list(second.values())).confidence_interval(0.95)
    low, high = found.mean - found.half_width, found.mean + found.half_width
    assert (low, high) == pytest.approx((reference.low, reference.high))
    assert 0.05 < low < high < 0.15  # a common part ten times as large is not in the way
    assert math.isnan(
        Results([result_of(FULL, 0, 0.1), result_of("static", 0, 0.2)]).difference(FULL, "static").half_width
    )
    assert results.difference(FULL, "static") is None


def test_what_runs_are_compared_by():
    results = Results([result_of(FULL, 1, 0.4), {"arm": FULL, "seed": 0, "diverged": "loss", "config": {}}])
    assert results.measures == [
        "linear probe",
        "10-NN probe",
        "best stage",
        "retrieval R@1",
        "actions, linear",
        "actions, k-NN",
    ]
    assert results.values(FULL, "best stage").to_dict() == pytest.approx({1: 0.44})
    assert results.values(FULL, "actions, linear").to_dict() == pytest.approx({1: 0.05})
    assert results.values("temporal").empty


def report_of(tmp_path, arms, seeds):
    runs = [result_of(arm, seed, accuracy_of(arm, seed)) for arm in arms for seed in seeds]
    diverged = result_of("linear", 0, 0.9) | {"diverged": "loss is not finite"}
    del diverged["probe"]
    manifest = tmp_path / "videos.csv"
    write_manifest(manifest, [VideoRecord(f"{i}.mp4", split="held_out" if i else "train") for i in range(3)])
    return write_report(tmp_path / "report", [*runs, diverged], manifest).read_text(encoding="utf-8")


def test_the_results_of_a_report_make_it_again(tmp_path):
    """Whoever has them can add runs of their own."""
    text = report_of(tmp_path, ("untrained", "temporal", FULL), (0, 1, 2))
    results = tmp_path / "report" / "results.json"
    assert main(["collect", str(results), "--output", str(tmp_path / "again")]) == 0
    (tmp_path / "again" / "videos.csv").write_bytes((tmp_path / "videos.csv").read_bytes())
    assert main(["report", "--output", str(tmp_path / "again"), "--report", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "README.md").read_text(encoding="utf-8") == text
    assert json.loads((tmp_path / "again" / "results.json").read_text()) == json.loads(results.read_text())


def test_a_report_says_what_came_out_and_what_was_not_run(tmp_path):
    arms = ("untrained", "temporal", "static", "nonlinear", FULL, "rotation_25", "supervised", "reversed")
    text = " ".join(report_of(tmp_path, arms, (0, 1, 2)).split())
    assert "code 0123456789ab, a processor" in text
    assert "code 0123456789ab+, a processor" in text
    assert "1 videos; 2 others" in text
    # Means of .5, .51, .52, half of the interval 2.5 (t = 4.303, s = .01).
    assert "| `rotation` | Non-linear motion and rotation, the full method (Table 4) | 0.004 | 3 | 51.0 ± 2.5 |" in text
    assert "| Tubelet contrast learns motion, temporal contrast does not (Table 2) | **+44.0 [+44.0, +44.0]** |" in text
    assert "| Static tubelets do worse than temporal contrast (Table 3) | **-4.0 [-4.0, -4.0]** |" in text
    assert "the opposite" in text
    assert "Linear motion does better than none" not in text
    assert "| An own negative played backwards helps | **-45.0 [-45.0, -45.0]** |" in text
    assert "for 600 steps the same network is right in 93.0 ± 0.0 %" in text
    assert "| growing / shrinking |" in text
    assert "Not run: `linear`, `scale`" in text
    assert "Diverged: `linear` (seed 0)" in text
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert "/nowhere" not in json.dumps(results)
    assert len(results) == 3 * len(arms) + 1
    for picture in ("arms", "arms_own", "videos", "along", "along_own", "stages", "confusion"):
        assert f"({picture}.png)" in text
        assert (tmp_path / "report" / f"{picture}.png").stat().st_size > 0


def test_a_report_on_one_arm_and_seed(tmp_path):
    text = " ".join(report_of(tmp_path, (FULL,), (0,)).split())
    assert "| 50.0 |" in text
    assert "arms.png" not in text
    assert "confusion.png" in text


def test_a_report_with_nothing_to_say(tmp_path, capsys):
    assert main(["report", "--output", str(tmp_path)]) == 0
    assert "nothing to report" in capsys.readouterr().out


def queue_run(seed, gaps):
    """A run of 6 steps whose queue is full after 2 of them."""
    arm = "queue_m99_k256_adamw_001"
    run = result_of(arm, seed, 0.3)
    run["config"] = merge(run["config"], {"contrast": {"queue_size": 128}, "optim": {"batch_size": 64, "steps": 7}})
    line = {"loss": 2.0, "top1": 0.5, "batch_top1": 0.25, "uniformity": -1.5}
    return run | {"log": [line | {"step": step, "age_gap": gap} for step, gap in enumerate(gaps, 1)]}


def test_queues_are_judged_once_they_hold_keys_alone(tmp_path):
    gaps = [9, 9, 9, 8, 0.5, 0.75, 0.25]
    runs = [result_of(FULL, 0, 0.5), queue_run(0, gaps), queue_run(1, [7, 7])]
    results = Results(runs)
    assert age_gaps(Results([*runs, queue_run(2, gaps[::-1])])) == age_gaps(results)
    like_it = queue_run(0, gaps[::-1]) | {"arm": "queue_m99_k256_sgd_05"}
    assert age_gaps(Results([*runs, like_it])) == age_gaps(results)
    assert age_gaps(results) == {
        "queue_m99_k256_adamw_001, seed 0": [(5, 0.5, math.nan), (6, 0.75, math.nan), (7, 0.25, math.nan)]
    }
    (row,) = queue_table(results).splitlines()[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:5] == ["0", "7", "2 / 100 = 0.02", "0.75"]
    assert cells[5:] == [f"2.00 of {math.log(129):.2f}", "50%, 25%", "-1.50", "30.0%", "7.5%"]
    assert not queue_table(Results(runs[:1]))
    manifest = tmp_path / "videos.csv"
    write_manifest(manifest, [VideoRecord("a.mp4", split="train")])
    text = write_report(tmp_path / "report", runs, manifest).read_text()
    assert "## Runs with a queue" in text
    assert (tmp_path / "report" / "age_gap.png").is_file()


def told_run(arm, seed, way):
    last = {"linear": 0.3, "knn": 0.2, "chance": 0.04, "axes": {"way": way}, "opposites": {"left / right": way / 2}}
    return result_of(arm, seed, 0.4) | {"labelled": {"gym": {"stem": {"linear": 0.1}, "layer4": last}}}


def test_what_classes_differ_by_is_reported(tmp_path):
    runs = [told_run("rotation_long", seed, 0.8 + 0.05 * seed) for seed in range(3)]
    runs.append(told_run("static_long", 0, 0.5))
    results = Results([*runs, result_of("temporal_long", 0, 0.1)])
    assert results.told_apart("axes") == {"gym": ["way"]}
    assert results.told("rotation_long", "gym", "axes", "way") == pytest.approx([0.8, 0.85, 0.9])
    assert results.told("temporal_long", "gym", "axes", "way") == []
    manifest = tmp_path / "videos.csv"
    write_manifest(manifest, [VideoRecord("a.mp4", split="train"), VideoRecord("b.mp4", split="held_out")])
    text = " ".join(write_report(tmp_path / "report", results.runs, manifest).read_text(encoding="utf-8").split())
    assert "| `rotation_long` | 85.0 ± 12.4 |" in text
    assert "| `static_long` | 50.0 |" in text
    assert "| pair | `rotation_long` |" in text
    assert "| left / right | 42.5 ± 6.2 |" in text


def test_motions_in_clips_of_other_lengths_are_reported(tmp_path):
    manifest = tmp_path / "videos.csv"
    write_manifest(manifest, [VideoRecord("a.mp4", split="train"), VideoRecord("b.mp4", split="held_out")])
    runs = [result_of(arm, seed, 0.3) for arm in (FULL, "temporal") for seed in (0, 1)]
    pairs = {" / ".join(pair): 0.01 * place for place, pair in enumerate(MOTION_PAIRS)}
    longer = runs[0]["probe"] | {"linear": 0.7, "pairs": pairs}
    labelled = {"gym": {"layer1": {"linear": 0.61, "knn": 0.5, "chance": 0.1, "axes": {"way": 0.75}, "opposites": {}}}}
    runs[2]["by_frames"] = {"16": {"probe": longer, "labelled": labelled}, "8": {"probe": runs[2]["probe"]}}
    assert list(Results(runs).by_frames()) == [8, 16]
    report = write_report(tmp_path / "report", runs, manifest).read_text()
    shorter, longer = (
        report.split("## Clips of other lengths")[1].split("## What is not here")[0].split("### 16 frames")
    )
    assert "### 8 frames" in shorter
    for part, probe in ((shorter, "30.0"), (longer, "70.0")):
        row, *_ = [line.split("|") for line in part.splitlines() if line.startswith("| `temporal` ")]
        assert row[5].strip() == probe
        assert f"| `{FULL}`" not in part
    rows = [line.split("|") for line in longer.splitlines() if " / " in line]
    assert [row[1].strip() for row in rows] == [" / ".join(pair) for pair in MOTION_PAIRS]
    assert [float(row[2]) for row in rows] == list(range(len(MOTION_PAIRS)))
    assert "| 61.0" in longer
    assert "| 75.0" in longer


def test_labelled_sets_are_drawn_with_their_chance(tmp_path):
    runs = [result_of(arm, 0, 0.4) for arm in (FULL, "temporal", "shared_8")]
    assert Results(runs).labelled_sets == {"actions": 0.25}
    manifest = tmp_path / "videos.csv"
    write_manifest(manifest, [VideoRecord("a.mp4", split="train")])
    text = write_report(tmp_path / "report", runs, manifest).read_text()
    assert "actions, chance 25.0%" in text
    assert "](labelled_actions.png)" in text
