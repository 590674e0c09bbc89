# One cell of the grid: a framework trains a variant from a seed, and evaluates it.


rule train:
    input:
        data=DATA,
        weights=starting_weights,
    output:
        **run_files(RESULTS),
    log:
        f"{LOGS}/{CELL}.log",
    benchmark:
        f"{BENCHMARKS}/{CELL}.tsv"
    conda:
        "../envs/{framework}.yaml"
    threads: config["threads"] + config["execution"]["workers"]
    resources:
        attempt=lambda wildcards, attempt: attempt,
        gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=at_each_attempt("mem_mb", 8000),
        # A retry goes on from the checkpoint.
        runtime=min(240, config["largest_job"]["runtime"]),
    params:
        script=script("train.py"),
        options=training_options,
        weights=lambda wildcards, input: [f"--weights={input.weights}"] if input.weights else [],
        folder=subpath(output.metrics, parent=True),
        # Not used below: they let Snakemake train again just the cells whose network or code changed.
        network=lambda wildcards: fingerprint.of_variant(variants.get(wildcards.variant)),
        code=lambda wildcards: fingerprint.of_training(wildcards.framework),
    shell:
        "python {params.script:q} --framework {wildcards.framework} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --data {input.data:q} {params.weights:q} {params.options:q} --attempt {resources.attempt} --output {params.folder:q} 2> {log:q}"
