# What the cells start from. These rules download, so they run where the workflow was started: a compute node needs no internet.


localrules:
    dataset,
    weights,


rule dataset:
    input:
        archive=archive,
    output:
        data="resources/data/{dataset}.npz",
    log:
        "logs/data/{dataset}.log",
    params:
        archive=config["data"]["archive"],
    conda:
        "../envs/analysis.yaml"
    # Before any training: what is missing is to be missed at once.
    priority: 100
    shell:
        "python {SCRIPTS:q}/prepare_data.py {wildcards.dataset} --archive {params.archive:q} --output {output.data:q} 2>&1 | tee {log:q}"


rule weights:
    input:
        source=local_path(config["weights"]["source"]),
    output:
        weights="resources/weights/{variant}-{classifier}.safetensors",
    log:
        "logs/weights/{variant}-{classifier}.log",
    params:
        options=options("weights"),
    conda:
        "../envs/pytorch.yaml"
    priority: 100
    shell:
        "python {SCRIPTS:q}/prepare_weights.py --variant {wildcards.variant} {params.options:q} --output {output.weights:q}"
        " 2>&1 | tee {log:q}"
