"""`deltawire backup`: copy what a gateway stores, while it runs."""

from __future__ import annotations

from pathlib import Path

import click

from deltawire.gateway.cli.ending import Failure
from deltawire.gateway.cli.options import examples
from deltawire.gateway.cli.whole_file import written_whole
from deltawire.gateway.workers.storage import back_up_all


@click.command(
    "backup",
    epilog=examples(
        "deltawire backup /var/lib/deltawire backup-$(date +%F).sqlite",
        "install -D -m 600 backup-2026-11-22.sqlite restored/deltawire.sqlite",
        "deltawire serve --data-dir restored",
    ),
)
@click.argument("data_dir", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def command(*, data_dir: Path, target: Path) -> None:
    """Copy what a gateway stores in DATA_DIR to the new file TARGET, whether the gateway runs or not.

    The copy is of one moment, for each worker of the gateway, and has everything that was acknowledged before. TARGET
    appears when it is whole and checked; only you can read it. Run this as the user that runs the gateway. The gateway
    goes on meanwhile; its WAL file grows until the copy is made.

    To restore, put TARGET into an empty folder as `deltawire.sqlite`, and start `serve --data-dir` with that folder and
    any number of workers. The first start there gives open streams new epochs, as they go on without what came after
    the backup: readers get them from the beginning, and are told why. So a backup can be restored several times. To
    move a gateway that has ended, move its folder: that keeps the epochs.
    """
    if target.exists():
        raise Failure(f"{target}: exists: name a new file, or remove it")
    with written_whole(target) as file:
        back_up_all(data_dir, Path(file.name))
