"""Snakemake, asking SLURM for its jobs' states twice a second and not every 40 to 180 s. For tests only; arguments are Snakemake's own."""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(executor: RemoteExecutor) -> None:
    """Replaces the executor's own, for which no setting goes below ten more seconds a quiet round."""
    await asyncio.sleep(0.5)


if __name__ == "__main__":
    RemoteExecutor.sleep = sleep
    # Jobs start `python -m snakemake` anew: they are not touched by this.
    sys.exit(main(sys.argv[1:]))
