# Tables and figures from the runs' files. No framework is needed from here on.

TABLES = expand(
    f"{RESULTS}/{{table}}",
    table=[
        "runs.csv",
        "table.csv",
        "table.md",
        "table.tex",
        "comparisons.csv",
        "comparisons.md",
        "classes.csv",
        "environment.json",
    ],
)
CARDS = every_run("model_card.md") if config["outputs"]["model"] else []


rule collect:
    input:
        metrics=every_run("metrics.json"),
        predictions=every_run("predictions.npz"),
        original=ORIGINAL,
    output:
        runs=f"{RESULTS}/runs.csv",
        table=f"{RESULTS}/table.csv",
        markdown=f"{RESULTS}/table.md",
        latex=f"{RESULTS}/table.tex",
    log:
        f"{LOGS}/collect.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("collect.py"),
        folder=subpath(output.table, parent=True),
        frameworks=config["frameworks"],
        variants=config["variants"],
        seeds=config["seeds"],
    shell:
        "{params.script:q} --results {params.folder:q} --frameworks {params.frameworks:q} --variants {params.variants:q}"
        " --seeds {params.seeds} --original {input.original:q} 2>&1 | tee {log:q}"


rule compare:
    input:
        runs=rules.collect.output.runs,
        predictions=every_run("predictions.npz"),
        data=DATA,
    output:
        table=f"{RESULTS}/comparisons.csv",
        markdown=f"{RESULTS}/comparisons.md",
        classes=f"{RESULTS}/classes.csv",
    log:
        f"{LOGS}/compare.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("compare.py"),
        folder=subpath(output.table, parent=True),
    shell:
        "{params.script:q} --runs {input.runs:q} --data {input.data:q} --output {params.folder:q} 2>&1 | tee {log:q}"


rule describe_model:
    input:
        metrics=f"{RESULTS}/{RUN}/metrics.json",
        model=f"{RESULTS}/{RUN}/model.safetensors",
        table=rules.collect.output.table,
    output:
        card=f"{RESULTS}/{RUN}/model_card.md",
    log:
        f"{LOGS}/model_cards/{RUN}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("describe_model.py"),
    shell:
        "{params.script:q} --metrics {input.metrics:q} --model {input.model:q} --table {input.table:q} --output {output.card:q} 2> {log:q}"


rule environment:
    input:
        runs=rules.collect.output.runs,
    output:
        json=f"{RESULTS}/environment.json",
    log:
        f"{LOGS}/environment.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("record_environment.py"),
        snakemake=SNAKEMAKE_VERSION,
    shell:
        "{params.script:q} --runs {input.runs:q} --snakemake {params.snakemake} --output {output.json:q} 2> {log:q}"
