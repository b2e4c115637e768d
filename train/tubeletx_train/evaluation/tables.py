"""The paper's tables and Figure 5, with what finished runs measured beside what the paper prints."""

from __future__ import annotations

import csv
import io
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tubeletx_train.common.errors import UsageError
from tubeletx_train.common.files import writable_folder, write_text
from tubeletx_train.config.ablation_commands import finetune_command
from tubeletx_train.config.ablations import AblationTable, ablation_tables, arms, canonical_arm
from tubeletx_train.config.labelled import Protocol
from tubeletx_train.config.pretrain import ModelConfig
from tubeletx_train.config.recipes import recipe_names
from tubeletx_train.evaluation.results import RESULTS_FILE
from tubeletx_train.models.classifier import SCRATCH

TABLES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12)
FIGURES = (5,)

_STANDARD_WIDTH = 64
# Frozen features, and second tests of a run's weights, have no place in these tables.
_MODES = ("finetuned", "repetition")
_NONE = "None"
_OWN_ROWS = (_NONE, "Temporal contrast", "This paper", "This paper (Mini-Kinetics)")
_NEEDED = ("experiment", "method", "mode", "encoder", "width", "metrics", "protocol", "train_videos", "test_videos")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableConfig:
    """Settings of a table.

    Attributes:
        number: The paper's number of the table: 1 to 9, 11 or 12.
        figure: The paper's number of a figure whose numbers are wanted as a table, in place of `number`: 5.
        runs: Folder that is searched for results.json.
        protocol: Only runs of this protocol count.
        output: Folder for table_N.md and table_N.csv, or figure_N.md and figure_N.csv.
    """

    number: int | None = None
    figure: int | None = None
    runs: str = "runs"
    protocol: Protocol = "paper"
    output: str = "runs/tables"

    def __post_init__(self) -> None:
        if (self.number is None) == (self.figure is None):
            raise ValueError("give the number of a table, or --figure and that of a figure")
        if self.number is not None and self.number not in TABLES:
            raise ValueError(f"number: got {self.number}, needs one of {', '.join(map(str, TABLES))}")
        if self.figure is not None and self.figure not in FIGURES:
            raise ValueError(f"figure: got {self.figure}, needs one of {', '.join(map(str, FIGURES))}")

    @property
    def name(self) -> str:
        """Of the table: "table7", "figure5"."""
        return f"table{self.number}" if self.figure is None else f"figure{self.figure}"


@dataclass(frozen=True)
class Cell:
    """A place in a table.

    Attributes:
        paper: What the paper prints, None where it prints nothing.
        values: One value a run, in the paper's units.
        decimals: Digits after the point.
        command: What fills it, empty where nothing of ours does.
    """

    paper: float | None = None
    values: tuple[float, ...] = ()
    decimals: int = 1
    command: str = ""

    @property
    def mean(self) -> float | None:
        """Over the runs."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation; None of fewer than two runs."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Table:
    """A table to be printed.

    Attributes:
        title: Heading.
        corner: Heading of the first column.
        columns: Headings of the others.
        rows: Cells by the row's name.
    """

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: dict[str, list[Cell]] = field(default_factory=dict)


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """Every results.json below a folder. Raises UsageError, naming the file, for one that cannot be read."""
    if not Path(folder).is_dir():
        raise UsageError(f"{folder}: is not a folder; --runs is where finished runs lie")
    results = []
    for path in sorted(Path(folder).rglob(RESULTS_FILE)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read ({error})") from error
        missing = [name for name in _NEEDED if not isinstance(content, dict) or name not in content]
        if missing:
            raise UsageError(f"{path}: is not of a finished run; it lacks {', '.join(missing)}")
        results.append(content)
    return results


def make_table(name: str, results: Sequence[Mapping[str, Any]], protocol: Protocol = "paper") -> Table:
    """Put results into one of the paper's tables.

    Args:
        name: "table1" and so on, or "figure5".
        results: Contents of results.json files.
        protocol: Others are left out.

    Raises:
        UsageError: The protocol cannot run the table, or a result lacks the metric of its experiment.
    """
    printed = _printed()
    finished = [result for result in results if result["mode"] in _MODES and result["protocol"] == protocol]
    counted = [result for result in finished if result["experiment"] in printed["experiments"]]
    _warn_of_unknown(finished, printed["experiments"])
    if name == "table1":
        return _setup_table(printed["experiments"], counted, protocol)
    ablation = ablation_tables().get(name)
    number = int(name.removeprefix("table")) if ablation is None else None
    encoder = printed["tables"][number]["encoder"] if number is not None else ModelConfig.encoder
    fitting = [result for result in counted if (result["encoder"], result["width"]) == (encoder, _STANDARD_WIDTH)]
    if len(fitting) < len(counted):
        _logger.warning(
            "%d results are of another encoder than %s and have no place in %s",
            len(counted) - len(fitting),
            encoder,
            name,
        )
    if ablation is not None:
        return _ablation_table(ablation, printed["experiments"], fitting, protocol)
    assert number is not None
    return _accuracy_table(number, printed["tables"][number], printed, fitting, protocol)


def _warn_of_unknown(results: Sequence[Mapping[str, Any]], experiments: Mapping[str, Any]) -> None:
    unknown = {str(result["experiment"]) for result in results} - experiments.keys() - {str(None)}
    if unknown:
        _logger.warning(
            "results of experiments that no table has are left out: %s; the tables have %s",
            ", ".join(sorted(unknown)),
            ", ".join(experiments),
        )


def _printed() -> dict[str, Any]:
    text = (resources.files("tubeletx_train.evaluation") / "tables.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def _setup_table(experiments: Mapping[str, Any], results: Sequence[Mapping[str, Any]], protocol: Protocol) -> Table:
    """Table 1: classes and videos of each experiment."""
    keys = ("classes", "train", "test")
    measured = {"classes": "num_classes", "train": "train_videos", "test": "test_videos"}
    table = Table("Table 1: benchmark details", "Experiment", ("classes", "finetuning videos", "test videos"))
    for name, experiment in experiments.items():
        if "train" not in experiment:
            continue
        latest = next((result for result in reversed(results) if result["experiment"] == name), None)
        table.rows[experiment["title"]] = [
            Cell(
                experiment[key],
                () if latest is None or experiment[key] is None else (latest[measured[key]],),
                decimals=0,
                command=_command(name, experiment, protocol),
            )
            for key in keys
        ]
    return table


def _ablation_table(
    ablation: AblationTable, experiments: Mapping[str, Any], results: Sequence[Mapping[str, Any]], protocol: Protocol
) -> Table:
    """A row for each group of arms, whose runs are found by the arm that `recipes` names as their method."""
    if protocol == "released" and ablation.paper_only is not None:
        raise UsageError(f"{ablation.title} cannot be run by the released protocol: {ablation.paper_only}")
    columns = tuple(experiments[column]["title"] for column in ablation.columns)
    table = Table(ablation.title, "Pretraining", columns)
    for arm in ablation.arms:
        if protocol == "released" and arm.paper_only is not None:
            continue
        cells = table.rows.setdefault(arm.group, [Cell() for _ in ablation.columns])
        for place, column in enumerate(ablation.columns):
            values = tuple(
                _in_papers_units(result["metrics"], experiments[column]["metric"])
                for result in results
                if result["experiment"] == column and canonical_arm(result["method"]) == canonical_arm(arm.name)
            )
            cells[place] = Cell(
                arm.printed[place] if arm.printed else None,
                cells[place].values + values,
                command=cells[place].command or ("" if values else finetune_command(arm, column, protocol)),
            )
    return table


def _accuracy_table(
    number: int,
    spec: Mapping[str, Any],
    printed: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    protocol: Protocol,
) -> Table:
    experiments = {name: printed["experiments"][name] for name in spec["columns"]}
    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        name = result["experiment"]
        # The ablations' pretrainings have rows in their own tables.
        if name in experiments and result["method"] not in arms():
            method = _NONE if result["method"] == SCRATCH else result["method"]
            value = _in_papers_units(result["metrics"], experiments[name]["metric"])
            found.setdefault(method, {}).setdefault(name, []).append(value)
    table = Table(
        f"Table {number}: {spec['title']}",
        "Pretraining",
        tuple(experiment["title"] for experiment in experiments.values()),
    )
    no_numbers = [None] * len(experiments)
    for method in [*spec["rows"], *(method for method in found if method not in spec["rows"])]:
        # A row of ours, or one begun, is one to fill; those that the paper took from others' papers are not.
        ours = method in found or method in _OWN_ROWS
        table.rows[method] = [
            Cell(
                paper,
                tuple(found.get(method, {}).get(name, ())),
                decimals=3 if experiment["metric"] == "mean_error" else 1,
                command=_command(name, experiment, protocol, spec["encoder"], method == _NONE) if ours else "",
            )
            for (name, experiment), paper in zip(experiments.items(), spec["rows"].get(method, no_numbers), strict=True)
        ]
    if "gains" in spec:
        table = _with_gains(table, spec)
    return _with_ranks(table, spec) if "ranks" in spec else table


def _in_papers_units(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise UsageError(f"a results.json has no metric {name}; it has {', '.join(metrics)}")
    return metrics[name] if name == "mean_error" else 100 * metrics[name]


def _command(
    name: str,
    experiment: Mapping[str, Any],
    protocol: Protocol,
    encoder: str = ModelConfig.encoder,
    scratch: bool = False,
) -> str:
    """What fills the cells of an experiment."""
    recipe = f"downstream/released/{name}" if protocol == "released" else f"downstream/{name}"
    if scratch and f"{recipe}_scratch" in recipe_names():
        recipe = f"{recipe}_scratch"
    network = "" if encoder == ModelConfig.encoder else f" --model.encoder {encoder}"
    return (
        f"tubeletx-train {experiment.get('command', 'finetune')} --config {recipe} --data.train "
        f"manifests/{experiment['manifest']}.csv --checkpoint CHECKPOINT --method ROW{network} "
        "--run.seed SEED --run.output FOLDER"
    )


def _with_gains(table: Table, spec: Mapping[str, Any]) -> Table:
    """One more column: the mean of what each row has over a base row, where all of both was measured."""
    base = [cell.mean for cell in table.rows[spec["gain_over"]]]
    rows: dict[str, list[Cell]] = {}
    for method, cells in table.rows.items():
        gains = [
            -100 * (cell.mean - low) if cell.decimals == 3 else cell.mean - low
            for cell, low in zip(cells, base, strict=True)
            if cell.mean is not None and low is not None
        ]
        whole = len(gains) == len(cells) and method != spec["gain_over"]
        mean = (statistics.fmean(gains),) if whole else ()
        rows[method] = [*cells, Cell(spec["gains"].get(method), mean)]
    return Table(table.title, table.corner, (*table.columns, f"mean gain over {spec['gain_over']}"), rows)


def _with_ranks(table: Table, spec: Mapping[str, Any]) -> Table:
    """One more column: the mean over the experiments of each row's rank, 1 the best and equals sharing the better one.

    A row that was measured whole is ranked among what was measured of the others, and what is printed of those of which
    nothing was.
    """
    places = range(len(spec["columns"]))
    ranked = {row: cells for row, cells in table.rows.items() if row not in spec["unranked"]}
    rows: dict[str, list[Cell]] = {}
    for row, cells in table.rows.items():
        means = [cells[place].mean for place in places]
        ranks = []
        for place, value in zip(places, means, strict=True):
            sign = -1 if cells[place].decimals == 3 else 1
            others = (_best_known(other[place]) for name, other in ranked.items() if name != row)
            if value is not None:
                ranks.append(1 + sum(other is not None and sign * other > sign * value for other in others))
        whole = len(ranks) == len(places) and row in ranked
        rows[row] = [*cells, Cell(spec["ranks"].get(row), (statistics.fmean(ranks),) if whole else ())]
    return Table(table.title, table.corner, (*table.columns, "average rank ↓"), rows)


def _best_known(cell: Cell) -> float | None:
    return cell.paper if cell.mean is None else cell.mean


def to_markdown(table: Table) -> str:
    """The table with our numbers first and the paper's in brackets; what is not measured yet has its command below."""
    notes: dict[str, str] = {}
    lines = [
        f"### {table.title}",
        "",
        "| " + " | ".join((table.corner, *table.columns)) + " |",
        "|---" + "|---:" * len(table.columns) + "|",
    ]
    for name, cells in table.rows.items():
        lines.append("| " + " | ".join([name, *(_show(cell, notes) for cell in cells)]) + " |")
    lines += [
        "",
        "Measured (mean ± standard deviation, number of runs where there are several); in brackets the paper.",
    ]
    if notes:
        lines += ["", "Not measured yet (the checkpoint of the row None is `scratch`):", ""]
        lines += [f"- [{label}] `{command}`" for command, label in notes.items()]
    return "\n".join(lines) + "\n"


def _show(cell: Cell, notes: dict[str, str]) -> str:
    parts = []
    if cell.mean is not None:
        text = f"{cell.mean:,.{cell.decimals}f}"
        if cell.spread is not None:
            text += f" ± {cell.spread:.{cell.decimals}f}, {len(cell.values)} runs"
        parts.append(text)
    elif cell.command:
        parts.append(f"[{notes.setdefault(cell.command, str(len(notes) + 1))}]")
    if cell.paper is not None:
        parts.append(f"({cell.paper:,.{cell.decimals}f})")
    return " ".join(parts)


def to_csv(table: Table) -> str:
    """The table with four columns for each of its own: mean, spread, number of runs, the paper's number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kinds = ("", " spread", " runs", " paper")
    writer.writerow([table.corner, *(f"{column}{kind}" for column in table.columns for kind in kinds)])
    for name, cells in table.rows.items():
        writer.writerow(
            [name, *(value for cell in cells for value in (cell.mean, cell.spread, len(cell.values), cell.paper))]
        )
    return text.getvalue()


def write_table(config: TableConfig) -> str:
    """Collect runs, write them as Markdown and as CSV, and return the Markdown."""
    table = make_table(config.name, read_results(config.runs), config.protocol)
    folder = writable_folder(config.output)
    markdown = to_markdown(table)
    stem = f"table_{config.number}" if config.figure is None else f"figure_{config.figure}"
    write_text(folder / f"{stem}.md", markdown)
    write_text(folder / f"{stem}.csv", to_csv(table))
    return markdown
