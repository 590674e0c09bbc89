"""Support for Snakemake and SLURM: configuration, hashes of code and data, jobs."""
