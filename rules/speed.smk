# `snakemake speed`: which framework is faster, and why? Not part of the default run. Nothing else should run on the machine meanwhile.

SPEED = expand(f"{RESULTS}/{{table}}", table=["speed.csv", "speed_ratios.csv", "speed.md"])
SPEED_FIGURES = [
    *expand(
        f"{RESULTS}/figures/speed/{{device}}/waterfall-{{framework}}-{{variant}}.{{suffix}}",
        device=TIMED_DEVICES,
        framework=config["frameworks"],
        variant=config["variants"],
        suffix=["png", "svg"],
    ),
    *expand(
        f"{RESULTS}/figures/speed/{{device}}/{{figure}}.{{suffix}}",
        device=TIMED_DEVICES,
        figure=["ratio", "roofline"],
        suffix=["png", "svg"],
    ),
]


rule speed:
    input:
        SPEED,
        SPEED_FIGURES,
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


rule plot_waterfall:
    input:
        arms=rules.collect_speed.output.arms,
    output:
        png=report(
            f"{RESULTS}/figures/speed/{{device}}/waterfall-{{framework}}-{{variant}}.png",
            caption="captions/waterfall.rst",
            category="Time",
            subcategory="What each change saves",
            labels={"what": "Waterfall", "framework": "{framework}", "variant": "{variant}", "device": "{device}"},
        ),
        svg=f"{RESULTS}/figures/speed/{{device}}/waterfall-{{framework}}-{{variant}}.svg",
    log:
        f"{LOGS}/figures/speed/{{device}}/waterfall-{{framework}}-{{variant}}.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_speed.py"),
    shell:
        "{params.script:q} waterfall --arms {input.arms:q} --device {wildcards.device} --framework {wildcards.framework}"
        " --variant {wildcards.variant} --output {output.png:q} 2> {log:q}"


rule plot_ratio:
    input:
        arms=rules.collect_speed.output.arms,
        ratios=rules.collect_speed.output.ratios,
    output:
        png=report(
            f"{RESULTS}/figures/speed/{{device}}/ratio.png",
            caption="captions/ratio.rst",
            category="Time",
            labels={"what": "One framework over the other", "device": "{device}"},
        ),
        svg=f"{RESULTS}/figures/speed/{{device}}/ratio.svg",
    log:
        f"{LOGS}/figures/speed/{{device}}/ratio.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_speed.py"),
    shell:
        "{params.script:q} ratio --arms {input.arms:q} --ratios {input.ratios:q} --device {wildcards.device}"
        " --output {output.png:q} 2> {log:q}"


rule plot_roofline:
    input:
        arms=rules.collect_speed.output.arms,
    output:
        png=report(
            f"{RESULTS}/figures/speed/{{device}}/roofline.png",
            caption="captions/roofline.rst",
            category="Time",
            labels={"what": "Share of the floor", "device": "{device}"},
        ),
        svg=f"{RESULTS}/figures/speed/{{device}}/roofline.svg",
    log:
        f"{LOGS}/figures/speed/{{device}}/roofline.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("plot_speed.py"),
    shell:
        "{params.script:q} roofline --arms {input.arms:q} --device {wildcards.device} --output {output.png:q} 2> {log:q}"
