"""`tubeletx-train recipes`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from tubeletx_train.common.errors import UsageError
from tubeletx_train.config.ablation_commands import MANIFESTS, arm_commands
from tubeletx_train.config.ablations import AblationTable, ablation_tables, arms
from tubeletx_train.config.recipes import describe, preparation, recipe_names, recipe_text


def main(arguments: Sequence[str], prog: str) -> int:
    """List the recipes, print one, or print the commands that run a table."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="""List the recipes that come with the package, print one, print the commands that run a table, or
choose one by the amount of data.""",
        epilog=f"""examples:
  {prog} pretrain/mini_kinetics
  {prog} table3/linear
  {prog} --table 3 > table3.sh
  {prog} --figure 5 --protocol released
  {prog} --for my_videos/""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="recipe to print")
    parser.add_argument("--table", metavar="N", help=f"table of the paper: {', '.join(_numbers('table'))}")
    parser.add_argument("--figure", metavar="N", help=f"figure of the paper: {', '.join(_numbers('figure'))}")
    parser.add_argument("--for", dest="videos", metavar="VIDEOS", help="manifest or folder to choose a recipe for")
    parser.add_argument(
        "--protocol",
        choices=("paper", "released"),
        default="paper",
        help="pretrain as the paper says (default), or as the released code does where it differs",
    )
    chosen = parser.parse_args(arguments)
    if sum(value is not None for value in (chosen.name, chosen.table, chosen.figure, chosen.videos)) > 1:
        raise UsageError("a recipe's name, --table, --figure and --for exclude each other")
    if chosen.videos is not None:
        print("\n".join(_chosen_for(chosen.videos)))
        return 0
    if chosen.table is not None or chosen.figure is not None:
        kind, number = ("table", chosen.table) if chosen.table is not None else ("figure", chosen.figure)
        print("\n".join(_commands(_find(kind, number), chosen.protocol)))
    elif chosen.name is not None:
        print(recipe_text(chosen.name), end="")
    else:
        print("\n".join(_list()))
    return 0


def _chosen_for(path: str) -> list[str]:
    # Readers and networks take a second to import, which a list of recipes need not wait for.
    from tubeletx_train.data import load_videos
    from tubeletx_train.pretrain.choice import choose_recipe, describe_choice, look_at

    footage = look_at(load_videos(path))
    return describe_choice(path, footage, choose_recipe(footage))


def _numbers(kind: str) -> list[str]:
    return [name.removeprefix(kind) for name in ablation_tables() if name.startswith(kind)]


def _find(kind: str, number: str) -> AblationTable:
    if number not in _numbers(kind):
        raise UsageError(f"no {kind} {number!r} of pretraining recipes; there are {', '.join(_numbers(kind))}")
    return ablation_tables()[f"{kind}{number}"]


def _list() -> Iterator[str]:
    rows = [(name, describe(name)) for name in recipe_names() if name not in arms()]
    for table in ablation_tables().values():
        names = [arm.name.removeprefix(f"{table.name}/") for arm in table.arms]
        shown = names if len(names) <= 8 else [*names[:2], "...", names[-1]]
        rows.append((f"{table.name}/...", f"{table.title}; {', '.join(shown)}"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"{name:{width}}  {text}"


def _commands(table: AblationTable, protocol: str) -> Iterator[str]:
    """A shell script that runs a table."""
    if protocol == "released" and table.paper_only is not None:
        raise UsageError(f"{table.title} cannot be run by the released protocol: {table.paper_only}")
    manifests = ", ".join(dict.fromkeys(f"{MANIFESTS[column]}.csv" for column in table.columns))
    yield f"# {table.title}"
    if table.note is not None:
        yield f"# Note: {table.note}."
    yield "# KINETICS is the folder of the Kinetics-400 videos. Fine-tuning takes, from the folder manifests,"
    yield f"# {manifests}: see tubeletx-train manifest --help."
    base = preparation(table.base)
    yield from table.prepare or ((base,) if base is not None else ())
    for arm in table.arms:
        yield f"\n# {arm.row}"
        if protocol == "released" and arm.paper_only is not None:
            yield f"# left out: {arm.paper_only}"
            continue
        if arm.printed:
            numbers = (f"{column} {value}" for column, value in zip(table.columns, arm.printed, strict=True))
            yield f"# in the paper: {', '.join(numbers)}"
        yield from arm_commands(table, arm, protocol)
