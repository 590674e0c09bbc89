"""What Snakemake and SLURM need: configuration, hashes of code and data, jobs."""
