"""`tubeletx-train manifest`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.data.datasets import DATASETS
from tubeletx_train.data.datasets.build import (
    FOLDER,
    ManifestConfig,
    build_manifest,
    format_counts,
    missing_path,
    write_manifest_files,
)


def main(arguments: Sequence[str], prog: str) -> int:
    """Write a manifest."""
    if arguments and not arguments[0].startswith("-"):
        arguments = [arguments[0].replace("-", "_"), *arguments[1:]]
    config = parse_config(
        ManifestConfig,
        arguments,
        prog=prog,
        positional="dataset",
        description=f"""\
List the videos of a data set in a manifest, the CSV file that every other command reads. Every listed video is looked
for; where one is missing nothing is written but the list of what is missing, unless --allow_missing true.

data sets, and the list files that --annotations must hold:
{_dataset_table()}""",
        epilog=f"""examples:
  {prog} ucf101 --root UCF-101/ --annotations ucfTrainTestlist/ --output ucf101.csv
  {prog} mini_kinetics --root k400/ --annotations lists/ --splits '[train]' --subset 0.25 --output mini_25.csv
  {prog} gym99 --root gym/ --annotations lists/ --per_class 11 --output gym_low_shot.csv
  {prog} folder --root my_videos/ --output mine.csv --check true""",
    )
    report = build_manifest(config)
    print(format_counts(report), flush=True)
    write_manifest_files(config, report)
    print(config.output)
    if report.missing:
        print(f"without {len(report.missing)} videos, listed in {missing_path(config.output)}")
    return 0


def _dataset_table() -> str:
    width = max(map(len, DATASETS))
    lines = [f"  {name:{width}}  {dataset.title}: {dataset.list_files}" for name, dataset in DATASETS.items()]
    return "\n".join([*lines, f"  {FOLDER:{width}}  any folder of videos: [train|val|test/][LABEL/]VIDEO"])
