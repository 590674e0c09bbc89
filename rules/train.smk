# One run of the grid: trains a variant in a framework with a seed, and evaluates it.


rule train:
    input:
        data=ancient(DATA),
        data_sha256=DATA_SHA256,
        weights=ancient(starting_weights),
        weights_sha256=starting_weights_sha256,
    output:
        **run_files(RESULTS),
    log:
        f"{LOGS}/{RUN}.log",
    benchmark:
        f"{BENCHMARKS}/{RUN}.tsv"
    conda:
        "../envs/{framework}.yaml"
    threads: config["threads"] + config["execution"]["workers"]
    resources:
        attempt=lambda wildcards, attempt: attempt,
        gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=at_each_attempt("mem_mb", 8000),
        # The same for every attempt, because a retry resumes from the checkpoint.
        runtime=min(240, config["largest_job"]["runtime"]),
        # Here, because a change in `params` would train finished runs again.
        runs_per_gpu=config["runs_per_gpu"],
    params:
        **program("train.py", computes=True),
        options=training_options,
        weights=lambda wildcards, input: [f"--weights={input.weights}"] if input.weights else [],
        threads=threads_of("train", besides=config["execution"]["workers"]),
        folder=subpath(output.metrics, parent=True),
        # Not used in the command; with these and `code`, Snakemake trains again only the runs whose network, code, data or weights changed.
        network=lambda wildcards: fingerprint.of_variant(variants.get(wildcards.variant)),
        data=lambda wildcards: replaced(DATA),
        start=lambda wildcards: replaced(starting_weights(wildcards)),
        configured_threads=config["threads"],
    shell:
        "{params.script:q} --framework {wildcards.framework} --variant {wildcards.variant} --seed {wildcards.seed}"
        " --data {input.data:q} {params.weights:q} {params.options:q} --threads={params.threads} --attempt {resources.attempt}"
        " --runs-per-gpu {resources.runs_per_gpu}"
        " --output {params.folder:q} 2> {log:q}"
