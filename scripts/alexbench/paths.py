"""Where the workflow's files are, relative to the project's folder; names in braces are Snakemake's wildcards."""

# In the folder of an experiment's results. Logs and benchmarks of a run have the same path in their own folders.
RUN = "runs/{framework}/{variant}/seed{seed}"
EVERY_RUN = RUN.format(framework="*", variant="*", seed="*")
DATA = "resources/data/{dataset}.npz"
WEIGHTS = "resources/weights/{variant}-{classifier}.safetensors"


def mirrored(results: str, folder: str) -> str:
    """The folder of an experiment's logs or benchmarks: `results/mine` -> `logs/mine`."""
    return results.replace("results", folder, 1)
