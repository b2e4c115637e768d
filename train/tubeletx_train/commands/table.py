"""`tubeletx-train table`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.evaluation.tables import FIGURES, TABLES, TableConfig, write_table


def main(arguments: Sequence[str], prog: str) -> int:
    """Collect finished runs into a table."""
    config = parse_config(
        TableConfig,
        arguments,
        prog=prog,
        positional="number",
        description=f"""\
Collect the results.json of finished runs into one of the paper's tables ({", ".join(map(str, TABLES))}), or with
--figure the numbers of a figure ({", ".join(map(str, FIGURES))}), averaged over its seeds. Runs of the ablations are
known by the method that `recipes --table` and `recipes --figure` give them. Beside them stands what the paper prints,
and cells that are still empty say what command fills them.""",
        epilog=f"""examples:
  {prog} 7 --runs runs/
  {prog} --figure 5 --runs runs/
  {prog} 6 --runs runs/ --protocol released --output tables/""",
    )
    print(write_table(config), end="")
    return 0
