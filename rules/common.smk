# What the rules share: the configuration, checked, and the functions that find their inputs and arguments. The only place with functions.

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

SCRIPTS = Path(workflow.current_basedir).parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from alexbench import files
from alexbench.experiment import execution, variants
from alexbench.workflow import configuration, fingerprint, patience, presence
from alexbench.experiment.download import is_url

# A workflow that uses this one as a module says what differs, as a file of the user's does; Snakemake then reads no configfile.
configuration.complete(config)

# Jobs on a cluster read this file again; only the process that the user started checks, so that it does so once.
if workflow.is_main_process:
    problems = configuration.errors(config) or configuration.missing_files(config)
    if problems:
        sys.exit("\n".join(problems))
    refusal = files.refusal(config["results"])
    if refusal:
        sys.exit(f"config: results: {config['results']} cannot be written ({refusal}); mend that or name another folder")
    # Snakemake takes what it may not see for absent, and would make it again.
    cells = itertools.product(config["frameworks"], config["variants"], map("seed{}".format, config["seeds"]))
    try:
        files.check_open("config: results", *(Path(config["results"], "runs", *cell) for cell in cells))
        files.check_open("resources", "resources/data", "resources/weights")
    except files.InputError as error:
        sys.exit(str(error))
    # Snakemake's lock is files in .snakemake/locks, which a killed Snakemake leaves behind: they go when no other one is alive here, and
    # the same command can be given again. While one is, they stay, and Snakemake refuses a second run. (Every Snakemake counts, dry runs
    # too: what it is going to do is not known yet when this is read.)
    others = presence.join(Path(".snakemake/at_work"), stale_when_alone=Path(".snakemake/locks"))
    if others:
        print(f"Another Snakemake is at work in this folder: {', '.join(others)}. Do not --unlock before it has ended.", file=sys.stderr)

# A training is timed: on this machine one at a time, or as many as are to share a GPU, unless the user says how many there are to be
# (`--resources gpu=2`). On a cluster, where Snakemake counts nodes, each job has its own. (The executor itself is not known yet when this is read.)
if workflow.resource_settings.nodes is None and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", config["runs_per_gpu"])

RESULTS = config["results"]
LOGS = RESULTS.replace("results", "logs", 1)
BENCHMARKS = RESULTS.replace("results", "benchmarks", 1)

# Programs find the library beside them, and never what happens to lie in the working directory, where a PYTHONPATH with an empty part (as
# "$PYTHONPATH:folder" is, where it was not set) would let them look first. The rest of PYTHONPATH may be where a cluster keeps its modules.
os.environ.pop("PYTHONSAFEPATH", None)
parts = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
os.environ.update(PYTHONPATH=os.pathsep.join(part for part in parts if part and Path(part).absolute() != Path.cwd()))

# One run of one cell; logs and benchmarks have the same place in their own folders.
CELL = "runs/{framework}/{variant}/seed{seed}"

SNAKEMAKE_VERSION = version("snakemake")

# Where another workflow's `prefix` puts a path of this one. (A rule's own paths get it from Snakemake, unless they are `local`.)
placed = workflow.modifier.path_modifier.replace_prefix

# The figures of the study that is reproduced.
STUDY = local(os.path.relpath(SCRIPTS.parent / "config" / "study.csv"))

DATA = f"resources/data/{config['data']['dataset']}.npz"
DATA_SHA256 = f"{DATA}.sha256"
WEIGHTS = "resources/weights/{variant}-{classifier}.safetensors"


# Where the timing experiment measures: "auto" is what the key device says.
TIMED_DEVICES = list(dict.fromkeys(config["device"] if device == "auto" else device for device in config["timing"]["devices"]))
# One measurement of it: every arm of a framework for one network, once.
MEASUREMENT = f"{RESULTS}/timing/{{device}}/{{variant}}/round{{round}}/{{framework}}.csv"
# All of them, in the order in which they are made, one after the other: frameworks take turns, so that what disturbs one disturbs all.
MEASUREMENTS = [
    MEASUREMENT.format(device=device, variant=variant, round=number + 1, framework=framework)
    for device in TIMED_DEVICES
    for variant in config["variants"]
    for number in range(config["timing"]["rounds"])
    for framework in config["frameworks"]
]


wildcard_constraints:
    device="auto|cpu|cuda",
    round=r"\d+",
    framework="|".join(config["frameworks"]),
    variant="|".join(dict.fromkeys([*config["variants"], *config["equal_time"].values()])),
    seed=r"\d+",


def script(name):
    """How a program in scripts/ is called: the interpreter and the program's path, from the working directory.

    With conda or in a container it is the `python` of the rule's environment; otherwise the one that runs Snakemake, which need not be on
    PATH. Snakemake does not record what a function of `input` returns, so that moving the project reruns nothing.
    """
    # -E, -s: an environment has all that is needed, and nothing of PYTHONPATH or the user's own packages (~/.local) comes before it.
    interpreter = ["python", "-E", "-s"] if workflow.deployment_settings.deployment_method else [sys.executable]
    return lambda wildcards, input: [*interpreter, os.path.relpath(SCRIPTS / name)]


def program(name):
    """What `params` needs to run a program: how it is called, `script`; and, so that it runs again when it changes, a hash of its `code`."""
    # A function, so that each job hashes only its own program.
    return {"script": script(name), "code": lambda wildcards: fingerprint.of_program(SCRIPTS / name)}


def local_path(source):
    """`source` as a rule's input where it is a file of this machine; nothing where it is a URL."""
    return [] if is_url(source) else local(str(Path(source).expanduser()))


def local_archive(dataset):
    """The archive that a data set is read from, where it is a local one."""
    return local_path(config["data"]["archive"]) if dataset == "cifar10" else []


def starting_weights(wildcards):
    """The weights file of a variant that starts from one."""
    pretrained = variants.get(wildcards.variant).pretrained
    return WEIGHTS.format(variant=wildcards.variant, **config["weights"]) if pretrained else []


def starting_weights_sha256(wildcards):
    """The file beside it with its SHA-256."""
    weights = starting_weights(wildcards)
    return f"{weights}.sha256" if weights else []


# An archive, a weights file and what is prepared from them are `ancient` to the rules that start from them: a file's time, which a copy or
# `touch` changes, costs no training. Snakemake compares what these two tell `params` instead. What is prepared has its SHA-256 in a small
# file beside it, which is not `ancient`, so that what is prepared anew is also trained on anew; when only its time changes, Snakemake
# compares what such a small file holds. Only the process that plans the jobs compares, so the jobs need not read large files for it.
def content(local):
    """A hash of a local file or folder that something is prepared from; None for a URL."""
    return fingerprint.of_content(Path(local)) if local and workflow.is_main_process else None


def replaced(prepared):
    """A hash of another file in the place of a prepared one; None where it is as it was prepared, or absent."""
    return fingerprint.of_prepared(Path(placed(prepared))) if prepared and workflow.is_main_process else None


def options(section, keys=None):
    """Keys of a section of the configuration as command-line options; null leaves an option out, false says --no-."""

    def option(key, value):
        name = key.replace("_", "-")
        return f"--{'' if value else 'no-'}{name}" if isinstance(value, bool) else f"--{name}={value}"

    values = {key: config[section][key] for key in keys or config[section]}
    return [option(key, value) for key, value in values.items() if value is not None]


def training_options(wildcards):
    """What scripts/train.py is told of the experiment."""
    subset = options("data", ["train_limit", "test_limit"])
    return [
        *options("recipe"),
        *options("execution"),
        *options("outputs"),
        *subset,
        f"--device={config['device']}",
    ]


def threads_of(name, besides=0):
    """For `params`: the threads that the program of rule `name` is given, as --set-threads and --max-threads leave them, less `besides`.

    Not `{threads}`, which Snakemake also cuts down to the cores that it was given: with -c1, too, a training has all its threads.
    """

    def told(wildcards, threads):
        asked = getattr(rules, name).rule.resources["_cores"]
        asked = threads if asked.is_evaluable() else asked.value
        return max(1, min(asked, workflow.resource_settings.max_threads or asked) - besides)

    return told


def at_each_attempt(resource, first, share=1):
    """`first` of a resource, twice that at the second attempt, and so on, up to the largest job, which `share` jobs have together."""
    return lambda wildcards, attempt: min(first * attempt, max(1, config["largest_job"][resource] // share))


def run_files(folder):
    """What a run in `folder` leaves, by name."""
    files = {"metrics": "metrics.json", "history": "history.csv", "predictions": "predictions.npz"}
    if config["outputs"]["model"]:
        files["model"] = "model.safetensors"
    return {name: f"{folder}/{CELL}/{file}" for name, file in files.items()}


def as_long_as(wildcards):
    """metrics.json of the run, of the same framework and seed, whose time a training gets; refused where that contradicts the recipe."""
    for problem in execution.contradictions(config["execution"], config["device"], recipe=config["recipe"], as_long_as=True):
        raise WorkflowError(f"config: {problem}")
    return f"{RESULTS}/{CELL}/metrics.json".format(**dict(wildcards) | {"variant": config["equal_time"]["as_long_as"]})


def every_run(file):
    """`file` of every run of the grid."""
    return expand(f"{RESULTS}/{CELL}/{file}", framework=config["frameworks"], variant=config["variants"], seed=config["seeds"])


def measurement_before(wildcards):
    """The measurement that comes before this one: they are not to run at the same time."""
    place = MEASUREMENTS.index(MEASUREMENT.format(**wildcards))
    return MEASUREMENTS[place - 1] if place else []


def experiments_besides():
    """What there is of the experiments apart from the grid, timing and parity and other texts among the results: each file with a hash."""
    results = Path(placed(RESULTS))
    found = [
        path
        for pattern in ("*.md", "*/table.md", "timing_ratios.csv", "parity/*.md", "figures/timing/*/ratio.png")
        for path in results.glob(pattern)
    ]
    besides = sorted(path for path in found if path not in (results / "table.md", results / "comparisons.md"))
    return [f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}" for path in besides]


def code_files():
    """The programs that make tables and figures, what they share, and the environments."""
    programs = [path for kind in ("collect", "compare", "plot", "record", "write") for path in sorted(SCRIPTS.glob(f"{kind}*.py"))]
    library = [path for wing in ("analysis", "writing") for path in sorted((SCRIPTS / "alexbench" / wing).glob("[a-z]*.py"))]
    return [local(os.path.relpath(path)) for path in (*programs, *library, *sorted((SCRIPTS.parent / "envs").glob("*.yaml")))]


def what_was_made():
    """The files that one opens first, of those that this run made, in a line; where it made others only, nothing."""
    made = {str(file) for job in workflow.dag.finished_jobs for file in job.output}
    parity = [f"parity/{variant}.md" for variant in config["variants"]]
    kinds = {
        "The study": ["study.html", "study.pdf"],
        "Tables": ["table.md", "equal_time/table.md", "timing.md", *parity],
        "Every run": ["runs.csv"],
    }
    found = {kind: [f"{RESULTS}/{name}" for name in names if f"{RESULTS}/{name}" in made] for kind, names in kinds.items()}
    found["Figures"] = [f"{RESULTS}/figures/"] if any(file.startswith(f"{RESULTS}/figures/") for file in made) else []
    return "  ".join(f"{kind}: {', '.join(files)}" for kind, files in found.items() if files)


def check_executor():
    """End before the first job where jobs are for SLURM and its commands are missing: each job would fail for that, one by one."""
    absent = [command for command in ("sbatch", "squeue", "scancel") if shutil.which(command) is None]
    if workflow.executor_plugin.name == "slurm" and absent:
        sys.exit(
            f"executor: slurm, as the profile says, needs {', '.join(absent)}, not found on PATH; start on a login node, or load SLURM's "
            "module; to train on this machine leave --profile out and say --cores all"
        )


def end(words):
    """Print the last words, and hand them to the command that the configuration names for it."""
    if words:
        print(words)
    if words and config["at_end"]:
        subprocess.run(config["at_end"], shell=True, input=f"{words}\n", text=True, encoding="utf-8", check=False)


def keep_jobs():
    """From here on, no job is lost where SLURM does not answer for a while, and each job's cost is noted."""
    if workflow.executor_plugin.name == "slurm":
        patience.Guard(workflow.scheduler._executor, Path(RESULTS))


def cancel_jobs_left():
    """Cancel what SLURM still has of this run when it ends with an error, which is nothing unless it was interrupted.

    While Snakemake asks SLURM for its jobs' states they are on no list of its own: interrupted then, it ends and cancels none of them.
    """
    if workflow.executor_plugin.name == "slurm":
        # The plugin gives all jobs of a run one name that no other run has.
        name = workflow.scheduler._executor.run_uuid
        subprocess.run(["scancel", f"--name={name}"], check=False, timeout=60)


def show_failed_logs(snakemake_logs):
    """Print the last lines of every log that Snakemake's own logs name for a failed job: a notebook's user sees no other."""
    said = "\n".join(Path(name).read_text(encoding="utf-8", errors="replace") for name in snakemake_logs)
    for name in dict.fromkeys(re.findall(r"^ +log: (.+?) \(check log file", said, re.MULTILINE)):
        path = Path(name)
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines() if path.is_file() else []
        print(f"{path} ends:", *(f"    {line}" for line in lines[-5:] or ["(it says nothing)"]), sep="\n", file=sys.stderr)
