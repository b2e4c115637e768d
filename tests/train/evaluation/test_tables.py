import csv
import json
import statistics

import pytest
import yaml

from tubeletx_train.cli import main
from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.ablations import ablation_tables
from tubeletx_train.config.recipes import load_recipe, recipe_names
from tubeletx_train.data.datasets import DATASETS
from tubeletx_train.evaluation import tables

ALL_TABLES = [*(f"table{number}" for number in tables.TABLES), *(f"figure{number}" for number in tables.FIGURES)]


def run(folder, experiment, method="This paper", **changes):
    """A finished run's results.json."""
    content = {
        "experiment": experiment,
        "method": method,
        "mode": "finetuned",
        "encoder": "r2plus1d_18",
        "width": 64,
        "seed": 0,
        "metrics": {"top1": 0.5, "mean_class_accuracy": 0.4, "map": 0.3, "mean_error": 0.2},
        "protocol": "paper",
        "train_videos": 1234,
        "test_videos": 567,
        "num_classes": 8,
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content | changes))


def rows(folder, number):
    with open(folder / f"table_{number}.csv", encoding="utf-8") as file:
        return {row[next(iter(row))]: row for row in csv.DictReader(file)}


def test_runs_stand_beside_the_papers_numbers(tmp_path, capsys):
    for seed, top1 in enumerate((0.901, 0.911, 0.921)):
        run(tmp_path / f"a{seed}", "ucf101", metrics={"top1": top1})
    run(tmp_path / "deep" / "er" / "b", "hmdb51", "Our own", metrics={"top1": 0.333})
    run(tmp_path / "scratch", "hmdb51", "scratch", metrics={"top1": 0.1})
    # What has no place in the table: another network, width, protocol, frozen features.
    run(tmp_path / "c", "ucf101", encoder="r3d_18")
    run(tmp_path / "d", "ucf101", width=8)
    run(tmp_path / "e", "ucf101", protocol="released")
    run(tmp_path / "f", "ucf101", mode="linear")
    run(tmp_path / "g", None)
    output = tmp_path / "tables"
    assert main(["table", "6", "--runs", str(tmp_path), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert printed == (output / "table_6.md").read_text()
    assert "| This paper | 91.1 ± 1.0, 3 runs (91.0) | [2] (64.1) |" in printed
    assert "| Our own | [1] | 33.3 |" in printed
    assert "| None | [1] | 10.0 |" in printed
    assert "| TE | (88.2) | (62.2) |" in printed
    assert "- [2] `tubeletx-train finetune --config downstream/hmdb51 --data.train manifests/hmdb51.csv" in printed
    table = rows(output, 6)
    assert float(table["This paper"]["UCF101"]) == pytest.approx(91.1)
    assert float(table["This paper"]["UCF101 spread"]) == pytest.approx(statistics.stdev((90.1, 91.1, 92.1)))
    assert (table["This paper"]["UCF101 runs"], table["This paper"]["UCF101 paper"]) == ("3", "91.0")
    assert (table["This paper"]["HMDB51"], table["This paper"]["HMDB51 runs"]) == ("", "0")


def test_every_experiment_is_judged_by_its_metric(tmp_path):
    for name in tables._printed()["tables"][7]["columns"]:
        run(tmp_path / f"ours_{name}", name)
        run(
            tmp_path / f"none_{name}",
            name,
            "scratch",
            metrics=dict.fromkeys(("top1", "mean_class_accuracy", "map"), 0.1) | {"mean_error": 0.5},
        )
    assert main(["table", "7", "--runs", str(tmp_path), "--output", str(tmp_path / "t")]) == 0
    ours = rows(tmp_path / "t", 7)["This paper"]
    values = {name: float(ours[name]) for name in ("SS-v2", "FX-S1", "UCF-RC ↓", "Charades-MLC")}
    assert values == pytest.approx({"SS-v2": 50, "FX-S1": 40, "UCF-RC ↓": 0.2, "Charades-MLC": 30})
    # Four times 50 - 10, twice 40 - 10, 30 - 10, and 100 (.5 - .2).
    assert float(ours["mean gain over None"]) == pytest.approx((4 * 40 + 2 * 30 + 20 + 30) / 8)


def test_the_printed_gains_follow_from_the_printed_numbers():
    spec = tables._printed()["tables"][7]
    weights = [-100 if name == "ucfrep" else 1 for name in spec["columns"]]
    for method, printed in spec["gains"].items():
        gains = [w * (a - b) for w, a, b in zip(weights, spec["rows"][method], spec["rows"]["None"], strict=True)]
        assert statistics.fmean(gains) == pytest.approx(printed, abs=0.1), method  # the paper cuts some off


def test_the_printed_ranks_follow_from_the_printed_numbers():
    spec = tables._printed()["tables"][7]
    measured = [
        {"experiment": name, "method": method, "metrics": {metric: value / (1 if metric == "mean_error" else 100)}}
        | {"mode": "finetuned", "encoder": "r2plus1d_18", "width": 64, "protocol": "paper"}
        for method, row in spec["rows"].items()
        for name, value in zip(spec["columns"], row, strict=True)
        for metric in [tables._printed()["experiments"][name]["metric"]]
    ]
    table = tables.make_table("table7", measured)
    assert table.columns[-1] == "average rank ↓"
    ranks = {method: cells[-1].mean for method, cells in table.rows.items()}
    assert ranks.pop("Supervised") is None
    assert ranks == pytest.approx(spec["ranks"], abs=0.051)
    # A single row is ranked among what the paper prints of the others.
    for method, rank in spec["ranks"].items():
        alone = tables.make_table("table7", [result for result in measured if result["method"] == method])
        assert alone.rows[method][-1].mean == pytest.approx(rank, abs=0.051)


def test_ablations_are_collected_by_their_arms(tmp_path, capsys, caplog):
    for seed, top1 in enumerate((0.54, 0.56)):
        run(tmp_path / f"linear{seed}", "ucf_low_shot", "table3/linear", metrics={"top1": top1})
    run(tmp_path / "static", "ssv2_sub", "table2/generation", metrics={"top1": 0.4})
    run(tmp_path / "unknown", "ssv3", "table2/generation")
    output = ["--runs", str(tmp_path), "--output", str(tmp_path / "t")]
    assert main(["table", "3", *output]) == 0
    assert "left out: ssv3" in caplog.text
    printed = capsys.readouterr().out
    assert "| Linear | 55.0 ± 1.4, 2 runs (55.5) | [" in printed
    assert "| 40.0 (40.1) |" in printed
    assert "tubeletx-train finetune --config downstream/gym_low_shot --checkpoint runs/table2/generation" in printed
    assert float(rows(tmp_path / "t", 3)["No motion"]["SSv2-Sub"]) == 40
    for number in (2, 4, 11, 12):  # those that share a pretraining share its runs
        assert main(["table", str(number), *output]) == 0
    assert float(rows(tmp_path / "t", 2)["Tubelet generation"]["SSv2-Sub"]) == 40
    assert main(["table", "7", *output]) == 0
    assert not [row for row in rows(tmp_path / "t", 7) if "table" in row]


def test_figure_5_is_averaged_over_its_seeds(tmp_path, capsys):
    for seed, accuracy in enumerate((0.8, 0.9, 0.7)):
        for share in ("0.25", "1.00"):
            method = f"figure5/tubelet/{share}/{seed}"
            run(tmp_path / method, "ub_s1", method, metrics={"mean_class_accuracy": accuracy})
    assert main(["table", "--figure", "5", "--runs", str(tmp_path), "--output", str(tmp_path / "t")]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "t" / "figure_5.md").read_text()
    lines = [line for line in printed.splitlines() if line.startswith(("| Tubelet", "| Temporal"))]
    assert len(lines) == 2 * 6
    measured = [line for line in lines if "80.0 ± 10.0, 3 runs" in line]
    assert [line.split(" |")[0] for line in measured] == ["| Tubelet contrast, 25 %", "| Tubelet contrast, 100 %"]


def test_the_set_ups_are_those_of_the_manifests(tmp_path):
    run(tmp_path / "a", "fx_s1", num_classes=11, train_videos=1882, test_videos=777)
    assert main(["table", "1", "--runs", str(tmp_path), "--output", str(tmp_path / "t")]) == 0
    text = (tmp_path / "t" / "table_1.md").read_text()
    assert "| FX-S1 | 11 (11) | 1,882 (1,882) | 777 (777) |" in text
    for name, experiment in tables._printed()["experiments"].items():
        dataset = DATASETS[experiment["manifest"]]
        if "low_shot" not in name and "train" in experiment and name != "ucfrep":
            assert experiment["classes"] == dataset.num_classes
            assert abs(experiment["train"] - dataset.published["train"]) <= 1  # FineGym's list has one fewer


def test_every_cell_of_ours_names_a_command_that_exists(tmp_path):
    none = {"experiment": "ucf101", "method": "scratch", "metrics": {"top1": 0.5}}
    none |= {"mode": "finetuned", "encoder": "r2plus1d_18", "width": 64, "protocol": "released"}
    for name in ALL_TABLES:
        if name in ablation_tables() and ablation_tables()[name].paper_only is not None:
            with pytest.raises(UsageError, match="cannot be run by the released protocol"):
                tables.make_table(name, [], "released")
            continue
        table = tables.make_table(name, [none] if name == "table6" else [], "released")
        for cell in (cell for cells in table.rows.values() for cell in cells if cell.command):
            words = cell.command.split()
            recipe = words[words.index("--config") + 1]
            assert recipe in recipe_names()
            assert load_recipe(recipe)["experiment"] == recipe.rsplit("/", 1)[-1].removesuffix("_scratch")
            assert load_recipe(recipe)["protocol"] == "released"
        if name == "table6":
            assert "downstream/released/hmdb51_scratch " in table.rows["None"][1].command


def test_the_papers_numbers_are_whole():
    spec = tables._printed()
    assert sorted(spec["tables"]) == [6, 7, 8, 9]
    assert {f"table{number}" for number in tables.TABLES} == {f"table{n}" for n in (1, 6, 7, 8, 9)} | {
        name for name in ablation_tables() if name != "figure5"
    }
    for table in spec["tables"].values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"].values())
        assert set(table["columns"]) <= spec["experiments"].keys()
    assert yaml.safe_load("None: 1") == {"None": 1}  # the row is a name, not the absence of one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["10"], "number: got 10, needs one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12"),
        (["--figure", "3"], "figure: got 3, needs one of 5"),
        (["7", "--figure", "5"], "give the number of a table, or --figure"),
        ([], "give the number of a table, or --figure"),
        (["seven"], "number"),
        (["7", "--runs", "/nowhere"], "/nowhere: is not a folder"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["table", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"experiment": "ucf101"}', "\xff"])
def test_damaged_results_are_named(content, tmp_path, capsys):
    (tmp_path / "results.json").write_bytes(content.encode("latin-1"))
    assert main(["table", "6", "--runs", str(tmp_path), "--output", str(tmp_path / "t")]) == 2
    assert str(tmp_path / "results.json") in capsys.readouterr().err
