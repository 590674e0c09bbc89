# `snakemake equal_time`: how good is the small network with as much training time as the large one? Not part of the default run.

EQUAL = config["equal_time"]


rule equal_time:
    input:
        f"{RESULTS}/pages/equal_time.html",
    localrule: True


use rule train as train_as_long with:
    input:
        data=ancient(DATA),
        data_sha256=DATA_SHA256,
        weights=ancient(starting_weights),
        weights_sha256=starting_weights_sha256,
        model=as_long_as,
    output:
        **run_files(f"{RESULTS}/equal_time"),
    log:
        f"{LOGS}/equal_time/{RUN}.log",
    benchmark:
        f"{BENCHMARKS}/equal_time/{RUN}.tsv"
    params:
        **program("train.py", computes=True),
        options=lambda wildcards, input: [*training_options(wildcards), f"--as-long-as={input.model}"],
        weights=lambda wildcards, input: [f"--weights={input.weights}"] if input.weights else [],
        threads=threads_of("train_as_long", besides=config["execution"]["workers"]),
        folder=subpath(output.metrics, parent=True),
        network=lambda wildcards: fingerprint.of_variant(variants.get(wildcards.variant)),
        data=lambda wildcards: replaced(DATA),
        start=lambda wildcards: replaced(starting_weights(wildcards)),
        configured_threads=config["threads"],


rule compare_equal_time:
    input:
        grid=expand(
            f"{RESULTS}/{RUN}/{{file}}",
            framework=config["frameworks"],
            variant=[EQUAL["as_long_as"], EQUAL["variant"]],
            seed=config["seeds"],
            file=["metrics.json", "predictions.npz"],
        ),
        equal=expand(
            f"{RESULTS}/equal_time/{RUN}/{{file}}",
            framework=config["frameworks"],
            variant=EQUAL["variant"],
            seed=config["seeds"],
            file=["metrics.json", "predictions.npz"],
        ),
    output:
        table=f"{RESULTS}/equal_time/table.csv",
        markdown=f"{RESULTS}/equal_time/table.md",
    log:
        f"{LOGS}/equal_time/table.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("compare_equal_time.py"),
        results=subpath(output.table, ancestor=2),
        frameworks=config["frameworks"],
        variant=EQUAL["variant"],
        as_long_as=EQUAL["as_long_as"],
        seeds=config["seeds"],
    shell:
        "{params.script:q} --results {params.results:q} --frameworks {params.frameworks:q} --variant {params.variant:q}"
        " --as-long-as {params.as_long_as:q} --seeds {params.seeds} 2>&1 | tee {log:q}"
