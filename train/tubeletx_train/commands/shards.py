"""`tubeletx-train shards`."""

from __future__ import annotations

from collections.abc import Sequence

from tubeletx_train.config.parse import parse_config
from tubeletx_train.data.shards import ShardsConfig, pack_shards


def main(arguments: Sequence[str], prog: str) -> int:
    """Pack videos into tar shards."""
    config = parse_config(
        ShardsConfig,
        arguments,
        prog=prog,
        description="""Pack videos into tar shards of about a gigabyte, for file systems that are slow with many small
files. The manifest written beside them is trained from like any other; webdataset reads the shards too.""",
        epilog=f"""examples:
  {prog} --videos k400.csv --output shards/ --num_workers 8
  tubeletx-train pretrain --config pretrain/kinetics400 --data.videos shards/manifest.csv
  (cd shards && sha256sum --check SHA256SUMS)

Started again with the same output folder, it goes on with the shards that are not there.""",
    )
    print(pack_shards(config))
    return 0
