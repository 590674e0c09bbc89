"""Snakemake that asks SLURM for job states twice a second instead of every 40 to 180 s. For tests only; takes Snakemake's arguments."""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(executor: RemoteExecutor) -> None:
    """Replaces the executor's own sleep, to which every quiet round adds at least ten seconds, whatever the settings."""
    await asyncio.sleep(0.5)


if __name__ == "__main__":
    RemoteExecutor.sleep = sleep
    # The jobs do not inherit this: they start `python -m snakemake` anew.
    sys.exit(main(sys.argv[1:]))
