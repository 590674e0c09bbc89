# What the cells start from. These rules download, so they run where the workflow was started: a compute node needs no internet.


localrules:
    prefetch,
    dataset,
    weights,


# All of it and nothing else, for `make prefetch`.
rule prefetch:
    input:
        DATA,
        [WEIGHTS.format(variant=name, **config["weights"]) for name in config["variants"] if variants.get(name).pretrained],


rule dataset:
    input:
        archive=archive,
    output:
        data="resources/data/{dataset}.npz",
    log:
        "logs/data/{dataset}.log",
    # Before any training: what is missing is to be missed at once.
    priority: 100
    conda:
        "../envs/analysis.yaml"
    params:
        script=script("prepare_data.py"),
        archive=config["data"]["archive"],
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
    conda:
        "../envs/pytorch.yaml"
    params:
        script=script("prepare_weights.py"),
        options=options("weights"),
    shell:
        "python {params.script:q} --variant {wildcards.variant} {params.options:q} --output {output.weights:q}" " 2>&1 | tee {log:q}"
