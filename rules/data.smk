# What the cells start from. These rules download, so they run where the workflow was started: a compute node needs no internet.


# All of it and nothing else, for `make prefetch`.
rule prefetch:
    input:
        DATA,
        [WEIGHTS.format(variant=name, **config["weights"]) for name in config["variants"] if variants.get(name).pretrained],
    localrule: True


rule dataset:
    input:
        archive=archive,
    output:
        data="resources/data/{dataset}.npz",
    log:
        "logs/data/{dataset}.log",
    # Before any training: what is missing is to be missed at once.
    priority: 100
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        script=script("prepare_data.py"),
        # From a function: in what it returns, braces are no wildcards, and a URL may have them.
        archive=lambda wildcards: config["data"]["archive"],
    shell:
        "python {params.script:q} {wildcards.dataset} --archive {params.archive:q} --output {output.data:q} 2>&1 | tee {log:q}"


rule weights:
    input:
        source=local_path(config["weights"]["source"]),
    output:
        weights=WEIGHTS,
    log:
        "logs/weights/{variant}-{classifier}.log",
    priority: 100
    localrule: True
    conda:
        "../envs/pytorch.yaml"
    params:
        script=script("prepare_weights.py"),
        options=lambda wildcards: options("weights"),
    shell:
        "python {params.script:q} --variant {wildcards.variant} {params.options:q} --output {output.weights:q}" " 2>&1 | tee {log:q}"
