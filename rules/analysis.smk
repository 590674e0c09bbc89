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
FIGURES = [
    *expand(
        f"{RESULTS}/figures/{{figure}}.{{suffix}}",
        figure=["tradeoff", "learning", "time_to_accuracy", "calibration", "samples", "architectures"],
        suffix=["png", "svg"],
    ),
    *expand(
        f"{RESULTS}/figures/{{figure}}/{{framework}}-{{variant}}.{{suffix}}",
        figure=["classes", "mistakes"],
        framework=config["frameworks"],
        variant=config["variants"],
        suffix=["png", "svg"],
    ),
]


rule collect:
    input:
        metrics=every_run("metrics.json"),
        predictions=every_run("predictions.npz"),
        study=STUDY,
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
        " --seeds {params.seeds} --study {input.study:q} 2>&1 | tee {log:q}"


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
        metrics=f"{RESULTS}/{CELL}/metrics.json",
        model=f"{RESULTS}/{CELL}/model.safetensors",
        table=rules.collect.output.table,
    output:
        card=f"{RESULTS}/{CELL}/model_card.md",
    log:
        f"{LOGS}/model_cards/{CELL}.log",
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


rule plot_tradeoff:
    input:
        runs=rules.collect.output.runs,
        study=STUDY,
    output:
        png=report(
            f"{RESULTS}/figures/tradeoff.png",
            caption="captions/tradeoff.rst",
            category="Results",
            labels={"what": "Accuracy, parameters, training time"},
        ),
        svg=f"{RESULTS}/figures/tradeoff.svg",
    log:
        f"{LOGS}/figures/tradeoff.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_tradeoff.py"),
    shell:
        "{params.script:q} --runs {input.runs:q} --study {input.study:q} --output {output.png:q} 2> {log:q}"


rule plot_learning:
    input:
        runs=rules.collect.output.runs,
        history=every_run("history.csv"),
    output:
        png=report(
            f"{RESULTS}/figures/learning.png",
            caption="captions/learning.rst",
            category="Learning",
            labels={"what": "Learning curves"},
        ),
        svg=f"{RESULTS}/figures/learning.svg",
    log:
        f"{LOGS}/figures/learning.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_learning.py"),
        language=config["language"],
    shell:
        "{params.script:q} --runs {input.runs:q} --language {params.language} --output {output.png:q} 2> {log:q}"


rule plot_calibration:
    input:
        runs=rules.collect.output.runs,
        predictions=every_run("predictions.npz"),
    output:
        png=report(
            f"{RESULTS}/figures/calibration.png",
            caption="captions/calibration.rst",
            category="Learning",
            labels={"what": "Calibration"},
        ),
        svg=f"{RESULTS}/figures/calibration.svg",
    log:
        f"{LOGS}/figures/calibration.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_calibration.py"),
    shell:
        "{params.script:q} --runs {input.runs:q} --output {output.png:q} 2> {log:q}"


rule plot_time_to_accuracy:
    input:
        runs=rules.collect.output.runs,
        history=every_run("history.csv"),
    output:
        png=report(
            f"{RESULTS}/figures/time_to_accuracy.png",
            caption="captions/time_to_accuracy.rst",
            category="Time",
            labels={"what": "Training time to an accuracy"},
        ),
        svg=f"{RESULTS}/figures/time_to_accuracy.svg",
    log:
        f"{LOGS}/figures/time_to_accuracy.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_time_to_accuracy.py"),
    shell:
        "{params.script:q} --runs {input.runs:q} --output {output.png:q} 2> {log:q}"


rule plot_samples:
    input:
        data=DATA,
    output:
        png=report(
            f"{RESULTS}/figures/samples.png",
            caption="captions/samples.rst",
            category="Data and models",
            labels={"what": "Sample images"},
        ),
        svg=f"{RESULTS}/figures/samples.svg",
    log:
        f"{LOGS}/figures/samples.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_samples.py"),
        language=config["language"],
    shell:
        "{params.script:q} --data {input.data:q} --language {params.language} --output {output.png:q} 2> {log:q}"


rule plot_architectures:
    output:
        png=report(
            f"{RESULTS}/figures/architectures.png",
            caption="captions/architectures.rst",
            category="Data and models",
            labels={"what": "Architectures"},
        ),
        svg=f"{RESULTS}/figures/architectures.svg",
    log:
        f"{LOGS}/figures/architectures.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_architectures.py"),
        language=config["language"],
        variants=config["variants"],
        networks=[fingerprint.of_variant(variants.get(name)) for name in config["variants"]],
    shell:
        "{params.script:q} --variants {params.variants:q} --language {params.language} --output {output.png:q} 2> {log:q}"


rule plot_classes:
    input:
        runs=rules.collect.output.runs,
        predictions=expand(f"{RESULTS}/{CELL}/predictions.npz", seed=config["seeds"], allow_missing=True),
        data=DATA,
    output:
        png=report(
            f"{RESULTS}/figures/classes/{{framework}}-{{variant}}.png",
            caption="captions/classes.rst",
            category="Learning",
            subcategory="Classes",
            labels={"what": "Confusion matrix", "framework": "{framework}", "variant": "{variant}"},
        ),
        svg=f"{RESULTS}/figures/classes/{{framework}}-{{variant}}.svg",
    log:
        f"{LOGS}/figures/classes/{{framework}}-{{variant}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_classes.py"),
    shell:
        "{params.script:q} --runs {input.runs:q} --data {input.data:q} --framework {wildcards.framework}"
        " --variant {wildcards.variant} --output {output.png:q} 2> {log:q}"


rule plot_mistakes:
    input:
        runs=rules.collect.output.runs,
        predictions=expand(f"{RESULTS}/{CELL}/predictions.npz", seed=config["seeds"], allow_missing=True),
        data=DATA,
    output:
        png=report(
            f"{RESULTS}/figures/mistakes/{{framework}}-{{variant}}.png",
            caption="captions/mistakes.rst",
            category="Learning",
            subcategory="Mistakes",
            labels={"what": "The surest mistakes", "framework": "{framework}", "variant": "{variant}"},
        ),
        svg=f"{RESULTS}/figures/mistakes/{{framework}}-{{variant}}.svg",
    log:
        f"{LOGS}/figures/mistakes/{{framework}}-{{variant}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_mistakes.py"),
    shell:
        "{params.script:q} --runs {input.runs:q} --data {input.data:q} --framework {wildcards.framework}"
        " --variant {wildcards.variant} --output {output.png:q} 2> {log:q}"
