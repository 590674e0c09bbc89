# `snakemake speed`: which framework is faster, and why? Not part of the default run. Nothing else should run on the machine meanwhile.

SPEED = expand(f"{RESULTS}/{{table}}", table=["speed.csv", "speed_ratios.csv", "speed.md"])
# The figures of each device, all by scripts/plot_speed.py; keys as in figures.smk.
SPEED_FIGURES = {
    "waterfall": {"title": "Waterfall", "subcategory": "What each change saves", "per_cell": True},
    "ratio": {"title": "One framework over another"},
    "roofline": {"title": "Share of the floor"},
}


rule speed:
    input:
        SPEED,
        [
            expand(speed_figure_path(name, suffix), device=TIMED_DEVICES, framework=config["frameworks"], variant=config["variants"])
            for name in SPEED_FIGURES
            for suffix in ("png", "svg")
        ],
        expand(f"{RESULTS}/pages/{{page}}.html", page=["speed", "arms"]),
    localrule: True


rule time_steps:
    input:
        data=ancient(DATA),
        data_sha256=DATA_SHA256,
        before=measurement_before,
    output:
        rows=MEASUREMENT,
    log:
        f"{LOGS}/speed/{{device}}/{{variant}}/round{{round}}/{{framework}}.log",
    # On a cluster, all measurements run in one job, and so on the same machine.
    group:
        "speed"
    conda:
        "../envs/{framework}.yaml"
    threads: config["threads"]
    resources:
        gpu=0 if config["device"] == "cpu" else 1,
        mem_mb=at_each_attempt("mem_mb", 8000),
        runtime=at_each_attempt("runtime", 15, share=len(MEASUREMENTS)),
    params:
        **program("time_steps.py", computes=True),
        threads=threads_of("time_steps"),
        batch_size=config["recipe"]["batch_size"],
        seconds=config["speed"]["seconds"],
        network=lambda wildcards: fingerprint.of_variant(variants.get(wildcards.variant)),
        data=lambda wildcards: replaced(DATA),
        configured_threads=config["threads"],
    shell:
        "{params.script:q} --framework {wildcards.framework} --variant {wildcards.variant} --device {wildcards.device}"
        " --data {input.data:q} --threads {params.threads} --batch-size {params.batch_size} --seconds {params.seconds}"
        " --round {wildcards.round} --output {output.rows:q} 2> {log:q}"


rule collect_speed:
    input:
        rounds=MEASUREMENTS,
    output:
        arms=f"{RESULTS}/speed.csv",
        ratios=f"{RESULTS}/speed_ratios.csv",
        text=f"{RESULTS}/speed.md",
    log:
        f"{LOGS}/speed/collect.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("collect_speed.py"),
        folder=subpath(output.arms, parent=True),
    shell:
        "{params.script:q} {input.rounds:q} --output {params.folder:q} 2>&1 | tee {log:q}"


for name, figure in SPEED_FIGURES.items():

    rule:
        name:
            f"plot_{name}"
        input:
            arms=rules.collect_speed.output.arms,
            ratios=rules.collect_speed.output.ratios,
        output:
            png=report(
                speed_figure_path(name, "png"),
                caption=f"captions/{name}.rst",
                category="Time",
                subcategory=figure.get("subcategory"),
                labels={"what": figure["title"]}
                | ({"framework": "{framework}", "variant": "{variant}"} if figure.get("per_cell") else {})
                | {"device": "{device}"},
            ),
            svg=speed_figure_path(name, "svg"),
        log:
            speed_figure_path(name, "log").replace(RESULTS, LOGS, 1),
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            **program("plot_speed.py"),
            figure=name,
            options=lambda wildcards: [f"--{key}={value}" for key, value in wildcards.items()],
        shell:
            "{params.script:q} {params.figure} --arms {input.arms:q} --ratios {input.ratios:q} {params.options:q}"
            " --output {output.png:q} 2> {log:q}"
