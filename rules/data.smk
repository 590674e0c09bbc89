# What the cells start from. These rules download, so they run where the workflow was started: a compute node needs no internet.


# All of it and nothing else, for `make prefetch`.
rule prefetch:
    input:
        DATA,
        [WEIGHTS.format(variant=name, **config["weights"]) for name in config["variants"] if variants.get(name).pretrained],
    localrule: True


rule dataset:
    input:
        archive=ancient(lambda wildcards: local_archive(wildcards.dataset)),
    output:
        data="resources/data/{dataset}.npz",
        sha256="resources/data/{dataset}.npz.sha256",
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
        # Not used below: a changed archive is read again.
        content=lambda wildcards: content(local_archive(wildcards.dataset)),
    shell:
        "{params.script:q} {wildcards.dataset} --archive {params.archive:q} --output {output.data:q} 2>&1 | tee {log:q}"


rule weights:
    input:
        source=ancient(local_path(config["weights"]["source"])),
    output:
        weights=WEIGHTS,
        sha256=f"{WEIGHTS}.sha256",
    log:
        "logs/weights/{variant}-{classifier}.log",
    # Whatever this configuration asks for: in a workflow of two modules, one prepares the weights of both.
    wildcard_constraints:
        variant="|".join(name for name, variant in variants.VARIANTS.items() if variant.pretrained),
        classifier="pretrained|fresh",
    priority: 100
    localrule: True
    conda:
        "../envs/pytorch.yaml"
    params:
        script=script("prepare_weights.py"),
        options=lambda wildcards: options("weights", ["source", "sha256"]),
        content=lambda wildcards: content(local_path(config["weights"]["source"])),
    shell:
        "{params.script:q} --variant {wildcards.variant} --classifier {wildcards.classifier} {params.options:q}"
        " --output {output.weights:q} 2>&1 | tee {log:q}"
