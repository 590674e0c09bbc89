# Data and initial weights. These rules download, so they run where the workflow was started; compute nodes need no internet.


# All data and weights and nothing else, for `make prefetch`.
rule prefetch:
    input:
        DATA,
        [WEIGHTS.format(variant=name, **config["weights"]) for name in config["variants"] if variants.get(name).pretrained],
    localrule: True


rule dataset:
    input:
        images=ancient(lambda wildcards: local_images(wildcards.dataset)),
    output:
        data=paths.DATA,
        sha256=f"{paths.DATA}.sha256",
    log:
        "logs/data/{dataset}.log",
    # Those that need only their name and, of those that depend on the configuration, this configuration's.
    wildcard_constraints:
        dataset="|".join([*(name for name in datasets.NAMES if not datasets.source(name).READS), datasets.prepared_name(config["data"])]),
    # Before any training: fail early if an input is missing.
    priority: 100
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        script=script("prepare_data.py"),
        source=lambda wildcards: wildcards.dataset.partition("-")[0],
        # A function, because a URL may contain braces, which would otherwise be read as wildcards.
        options=dataset_options,
        # Not used in the command; it makes this rule rerun when the archive or the folder changes.
        content=lambda wildcards: content(local_images(wildcards.dataset)),
    shell:
        "{params.script:q} {params.source} {params.options:q} --output {output.data:q} 2>&1 | tee {log:q}"


rule weights:
    input:
        source=ancient(local_path(config["weights"]["source"])),
    output:
        weights=WEIGHTS,
        sha256=f"{WEIGHTS}.sha256",
    log:
        "logs/weights/{variant}-{classifier}.log",
    # Regardless of this configuration: in a workflow with two modules, one of them prepares the weights of both.
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
