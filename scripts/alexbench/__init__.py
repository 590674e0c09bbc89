"""The study's library: variants, data, recipe, training loop, backends, results. Knows nothing of Snakemake."""
