# AlexNet's variants on CIFAR-10, in PyTorch and in TensorFlow: data -> runs (framework x variant x seed) -> tables -> figures.
# All settings are in config/config.yaml.

from snakemake.utils import min_version

min_version("9.0")


# current_basedir: if another workflow uses this one as a module, basedir is the other one's.
configfile: f"{workflow.current_basedir}/config/config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/analysis.smk"
include: "rules/figures.smk"
include: "rules/plots.smk"
include: "rules/speed.smk"
include: "rules/parity.smk"
include: "rules/equal_time.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        TABLES,
        every_figure(),
        REPORT_PAGES,
        CARDS,


onstart:
    check_executor()
    keep_jobs()


onsuccess:
    end(what_was_made())


onerror:
    cancel_jobs_left()
    show_failed_logs(log)
    end("Not finished. How each run stands: make status. What SLURM or this machine refuses, and the key to set: make doctor")
