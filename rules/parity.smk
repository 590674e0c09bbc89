# `snakemake parity`: do the frameworks compute the same? Each runs in its own process, and both are compared with a float64 NumPy reference.
# Not part of the default run.


rule parity:
    input:
        expand(f"{RESULTS}/pages/parity/{{variant}}.html", variant=config["variants"]),
    localrule: True


rule measure_parity:
    input:
        data=ancient(DATA),
        data_sha256=DATA_SHA256,
    output:
        shown=f"{RESULTS}/parity/{{variant}}/{{framework}}.npz",
        weights=f"{RESULTS}/parity/{{variant}}/{{framework}}.safetensors",
    log:
        f"{LOGS}/parity/{{variant}}/{{framework}}.log",
    conda:
        "../envs/{framework}.yaml"
    threads: config["threads"]
    resources:
        gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=at_each_attempt("mem_mb", 8000),
        runtime=at_each_attempt("runtime", 30),
    params:
        **program("measure_parity.py", computes=True),
        options=[*options("execution"), f"--device={config['device']}"],
        threads=threads_of("measure_parity"),
        batch_size=config["recipe"]["batch_size"],
        network=lambda wildcards: fingerprint.of_variant(variants.get(wildcards.variant)),
        data=lambda wildcards: replaced(DATA),
        configured_threads=config["threads"],
    shell:
        "{params.script:q} --framework {wildcards.framework} --variant {wildcards.variant} --data {input.data:q}"
        " --batch-size {params.batch_size} {params.options:q} --threads={params.threads} --output {output.shown:q} 2> {log:q}"


rule compare_parity:
    input:
        shown=expand(f"{RESULTS}/parity/{{variant}}/{{framework}}.npz", framework=config["frameworks"], allow_missing=True),
        weights=expand(f"{RESULTS}/parity/{{variant}}/{{framework}}.safetensors", framework=config["frameworks"], allow_missing=True),
    output:
        table=f"{RESULTS}/parity/{{variant}}.md",
    log:
        f"{LOGS}/parity/{{variant}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("compare_parity.py"),
    shell:
        "{params.script:q} {input.shown:q} --variant {wildcards.variant} --output {output.table:q} 2>&1 | tee {log:q}"
