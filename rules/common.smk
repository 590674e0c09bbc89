# Shared by all rules: the checked configuration, and the functions that find inputs and arguments. Functions are defined only here.

import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

SCRIPTS = Path(workflow.current_basedir).parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from alexbench import files, paths
from alexbench.experiment import datasets, execution, variants
from alexbench.experiment.download import is_url
from alexbench.paths import RUN, WEIGHTS
from alexbench.workflow import configuration, fingerprint, patience, presence

# A workflow that uses this one as a module gives only what differs, like a user's file; Snakemake then does not read our configfile.
configuration.complete(config)

# Cluster jobs read this file again; only the process that the user started checks, so that it happens once.
if workflow.is_main_process:
    problems = configuration.errors(config) or configuration.missing_files(config)
    if problems:
        sys.exit("\n".join(problems))
    refusal = files.refusal(config["results"])
    if refusal:
        sys.exit(f"config: results: {config['results']} cannot be written ({refusal}); mend that or name another folder")
    # Snakemake takes files that it may not read for missing, and would make them again.
    runs = expand(f"{config['results']}/{RUN}", framework=config["frameworks"], variant=config["variants"], seed=config["seeds"])
    try:
        files.check_open("config: results", *runs)
        files.check_open("resources", *(Path(pattern).parent for pattern in (paths.DATA, WEIGHTS)))
    except files.InputError as error:
        sys.exit(str(error))
    # A killed Snakemake leaves its locks behind in .snakemake/locks. If no other Snakemake is running here, delete them, so that the same
    # command works again. Otherwise they stay, and Snakemake refuses a second run. (Dry runs count too: when this file is read, it is not
    # yet known what Snakemake is going to do.)
    others = presence.join(Path(".snakemake/at_work"), stale_when_alone=Path(".snakemake/locks"))
    if others:
        print(f"Another Snakemake is at work in this folder: {', '.join(others)}. Do not --unlock before it has ended.", file=sys.stderr)

# Trainings are timed. On this machine they therefore run one at a time, or as many as share a GPU (runs_per_gpu), unless the user sets a
# number (`--resources gpu=2`). On a cluster, where Snakemake counts nodes, each job has its own GPU. (The executor is not known yet when this
# file is read.)
if workflow.resource_settings.nodes is None and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", config["runs_per_gpu"])

RESULTS = config["results"]
LOGS = paths.mirrored(RESULTS, "logs")
BENCHMARKS = paths.mirrored(RESULTS, "benchmarks")

# Programs must import the library beside them, which PYTHONSAFEPATH would hide, and never modules that happen to be in the working
# directory. An empty part of PYTHONPATH ("$PYTHONPATH:folder" with PYTHONPATH unset) makes Python look there first, so empty parts are
# removed. The rest is kept: a cluster may have its modules there.
os.environ.pop("PYTHONSAFEPATH", None)
parts = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
os.environ.update(PYTHONPATH=os.pathsep.join(part for part in parts if part and Path(part).absolute() != Path.cwd()))

SNAKEMAKE_VERSION = version("snakemake")

# Applies the `prefix` of a workflow that uses this one as a module. (Snakemake applies it to paths in rules, unless they are `local`.)
placed = workflow.modifier.path_modifier.replace_prefix

# The results of the original study, which is reproduced.
ORIGINAL = local(os.path.relpath(SCRIPTS.parent / "config" / "original.csv"))

DATA = paths.DATA.format(dataset=config["data"]["dataset"])
DATA_SHA256 = f"{DATA}.sha256"


# Devices of the experiment on speed; "auto" stands for the configured device.
TIMED_DEVICES = list(dict.fromkeys(config["device"] if device == "auto" else device for device in config["speed"]["devices"]))
# One of its measurements: every arm of one framework for one network, once.
MEASUREMENT = f"{RESULTS}/speed/{{device}}/{{variant}}/round{{round}}/{{framework}}.csv"
# All measurements, in the order in which they run, one at a time. Frameworks take turns, so that a disturbance affects all of them.
MEASUREMENTS = [
    MEASUREMENT.format(device=device, variant=variant, round=number + 1, framework=framework)
    for device in TIMED_DEVICES
    for variant in config["variants"]
    for number in range(config["speed"]["rounds"])
    for framework in config["frameworks"]
]


wildcard_constraints:
    device="auto|cpu|cuda",
    round=r"\d+",
    framework="|".join(config["frameworks"]),
    variant="|".join(dict.fromkeys([*config["variants"], *config["equal_time"].values()])),
    seed=r"\d+",


def script(name):
    """The command that starts a program in scripts/: the interpreter and the program's path, relative to the working directory.

    With conda or in a container the interpreter is the `python` of the rule's environment; otherwise it is the one that runs Snakemake,
    which need not be on PATH. Returns a function of `input`: Snakemake does not record its result, so moving the project reruns nothing.
    """
    # -E, -s: the environment has all that is needed; ignore PYTHONPATH and the user's own packages (~/.local).
    interpreter = ["python", "-E", "-s"] if workflow.deployment_settings.deployment_method else [sys.executable]
    return lambda wildcards, input: [*interpreter, os.path.relpath(SCRIPTS / name)]


def program(name, computes=False):
    """For `params` of whatever runs a program: its command (`script`) and a hash of its `code`, so that changed code runs again.

    `computes`: True if it trains or measures the rule's framework.
    """
    # Lazy: each job hashes only its own program.
    return {
        "script": script(name),
        "code": lambda wildcards: fingerprint.of_program(SCRIPTS / name, wildcards.framework if computes else None),
    }


def local_path(source):
    """`source` as a rule's input if it is a local path; [] if it is a URL."""
    return [] if is_url(source) else local(str(Path(source).expanduser()))


def local_archive(dataset):
    """The archive that a data set is read from, if it is a local path; otherwise []."""
    return local_path(config["data"]["archive"]) if datasets.source(dataset).ARCHIVE else []


def starting_weights(wildcards):
    """The weights file that a variant starts from; [] for a variant with random initial weights."""
    pretrained = variants.get(wildcards.variant).pretrained
    return WEIGHTS.format(variant=wildcards.variant, **config["weights"]) if pretrained else []


def starting_weights_sha256(wildcards):
    """The file with the SHA-256 of a variant's weights file; [] if it has none."""
    weights = starting_weights(wildcards)
    return f"{weights}.sha256" if weights else []


# The archive, the weights file and the files prepared from them are `ancient` inputs, so that a new modification time (from a copy or
# `touch`) does not cause training. Instead, Snakemake compares the hashes that the next two functions put into `params`. Beside each
# prepared file, a small file holds its SHA-256. It is not `ancient`, so that new data or weights cause training; if only its time changes,
# Snakemake compares the content, as for all small files. Only the process that plans the jobs hashes; jobs need not read large files for it.
def content(local):
    """A hash of a local file or folder that something is prepared from; None for a URL, and in a job."""
    return fingerprint.of_content(Path(local)) if local and workflow.is_main_process else None


def replaced(prepared):
    """A hash of a prepared file that was replaced by another; None if it is as it was prepared or missing, and in a job."""
    return fingerprint.of_prepared(Path(placed(prepared))) if prepared and workflow.is_main_process else None


def options(section, keys=None):
    """A section of the configuration, or some `keys` of it, as command-line options; null leaves an option out, false becomes --no-."""

    def option(key, value):
        name = key.replace("_", "-")
        return f"--{'' if value else 'no-'}{name}" if isinstance(value, bool) else f"--{name}={value}"

    values = {key: config[section][key] for key in keys or config[section]}
    return [option(key, value) for key, value in values.items() if value is not None]


def training_options(wildcards):
    """The options of scripts/train.py that come from the configuration."""
    subset = options("data", ["train_limit", "test_limit"])
    return [
        *options("recipe"),
        *options("execution"),
        *options("outputs"),
        *subset,
        f"--device={config['device']}",
    ]


def threads_of(name, besides=0):
    """For `params`: the threads for the program of rule `name`, after --set-threads and --max-threads, minus `besides`.

    Not `{threads}`, which Snakemake also limits to its own cores: a training gets all its threads even with -c1.
    """

    def told(wildcards, threads):
        asked = getattr(rules, name).rule.resources["_cores"]
        asked = threads if asked.is_evaluable() else asked.value
        return max(1, min(asked, workflow.resource_settings.max_threads or asked) - besides)

    return told


def at_each_attempt(resource, first, share=1):
    """A resource that grows with the attempts: `first`, twice that, and so on, up to `largest_job`, which is divided among `share` jobs."""
    return lambda wildcards, attempt: min(first * attempt, max(1, config["largest_job"][resource] // share))


def run_files(folder):
    """The output files of a run in `folder`, by name."""
    files = {"metrics": "metrics.json", "history": "history.csv", "predictions": "predictions.npz"}
    if config["outputs"]["model"]:
        files["model"] = "model.safetensors"
    return {name: f"{folder}/{RUN}/{file}" for name, file in files.items()}


def as_long_as(wildcards):
    """metrics.json of the run, with the same framework and seed, whose time a training gets; an error if the recipe does not allow it."""
    for problem in execution.contradictions(config["execution"], config["device"], recipe=config["recipe"], as_long_as=True):
        raise WorkflowError(f"config: {problem}")
    return f"{RESULTS}/{RUN}/metrics.json".format(**dict(wildcards) | {"variant": config["equal_time"]["as_long_as"]})


def every_run(file):
    """`file` of every run of the grid."""
    return expand(f"{RESULTS}/{RUN}/{file}", framework=config["frameworks"], variant=config["variants"], seed=config["seeds"])


def every_seed(file):
    """`file` of every run of a cell."""
    return expand(f"{RESULTS}/{RUN}/{file}", seed=config["seeds"], allow_missing=True)


def figure_path(name, suffix):
    """Where a figure of figures.smk is: one file, or one for each cell."""
    place = f"{RESULTS}/figures/{name}"
    return f"{place}/{{framework}}-{{variant}}.{suffix}" if FIGURES[name].get("per_cell") else f"{place}.{suffix}"


def speed_figure_path(name, suffix):
    """Where a figure of speed.smk is: one file, or one for each cell, on each device."""
    cell = "-{framework}-{variant}" if SPEED_FIGURES[name].get("per_cell") else ""
    return f"{RESULTS}/figures/speed/{{device}}/{name}{cell}.{suffix}"


def page_path(name, suffix="html"):
    """Where a page of report.smk is: one file, or one for each variant."""
    return f"{RESULTS}/pages/{PAGES[name].get('path', name)}.{suffix}"


def figure_options(figure):
    """For `params`: the options of a figure's program."""

    def options(wildcards, input):
        files = [f"--{name}={input[name]}" for name in figure["inputs"]]
        chosen = [f"--{name}={value}" for name, value in wildcards.items()]
        language = [f"--language={config['language']}"] if figure.get("language") else []
        return [*files, *chosen, *language, *figure.get("options", [])]

    return options


def every_figure():
    """All files of all figures."""
    figures = [figure_path(name, suffix) for name in FIGURES for suffix in ("png", "svg")]
    return [expand(path, framework=config["frameworks"], variant=config["variants"]) for path in figures]


def measurement_before(wildcards):
    """The measurement before this one, so that no two run at the same time; [] for the first."""
    place = MEASUREMENTS.index(MEASUREMENT.format(**wildcards))
    return MEASUREMENTS[place - 1] if place else []


def experiments_besides():
    """The results of experiments outside the grid (speed, parity) and other texts among the results, as far as they exist, with hashes."""
    results = Path(placed(RESULTS))
    found = [
        path
        for pattern in ("*.md", "*/table.md", "speed_ratios.csv", "parity/*.md", "figures/speed/*/ratio.png")
        for path in results.glob(pattern)
    ]
    besides = sorted(path for path in found if path not in (results / "table.md", results / "comparisons.md"))
    return [f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}" for path in besides]


def code_files(wildcards):
    """The programs that make tables and figures, all modules that they use but for the packages' own files, and the environments."""
    kinds = ("collect", "compare", "plot", "record", "write_article", "write_page")
    programs = [path for kind in kinds for path in sorted(SCRIPTS.glob(f"{kind}*.py"))]
    library = set().union(*map(fingerprint.code_of, programs)).difference(programs)
    modules = sorted(path for path in library if path.suffix == ".py" and path.name != "__init__.py")
    return [local(os.path.relpath(path)) for path in (*programs, *modules, *sorted((SCRIPTS.parent / "envs").glob("*.yaml")))]


def what_was_made():
    """One line that names the files to open first, of those that this run made; empty if it made none of them."""
    made = {str(file) for job in workflow.dag.finished_jobs for file in job.output}
    parity = [f"parity/{variant}.md" for variant in config["variants"]]
    kinds = {
        "The article": ["article.html", "article.pdf"],
        "Tables": ["table.md", "equal_time/table.md", "speed.md", *parity],
        "Every run": ["runs.csv"],
    }
    found = {kind: [f"{RESULTS}/{name}" for name in names if f"{RESULTS}/{name}" in made] for kind, names in kinds.items()}
    found["Figures"] = [f"{RESULTS}/figures/"] if any(file.startswith(f"{RESULTS}/figures/") for file in made) else []
    return "  ".join(f"{kind}: {', '.join(files)}" for kind, files in found.items() if files)


def check_executor():
    """Exit before the first job if jobs go to SLURM and its commands are missing; otherwise every job would fail, one by one."""
    absent = [command for command in ("sbatch", "squeue", "scancel") if shutil.which(command) is None]
    if workflow.executor_plugin.name == "slurm" and absent:
        sys.exit(
            f"executor: slurm, as the profile says, needs {', '.join(absent)}, not found on PATH; start on a login node, or load SLURM's "
            "module; to train on this machine leave --profile out and say --cores all"
        )


def end(words):
    """Print the final message, and pass it to the command in `at_end`."""
    if words:
        print(words)
    if words and config["at_end"]:
        subprocess.run(config["at_end"], shell=True, input=f"{words}\n", text=True, encoding="utf-8", check=False)


def keep_jobs():
    """From here on, lose no job while SLURM does not answer, and record what each job costs."""
    if workflow.executor_plugin.name == "slurm":
        patience.Guard(workflow.scheduler._executor, Path(RESULTS))


def cancel_jobs_left():
    """Cancel the jobs that SLURM still has when this run ends with an error. There are some only if it was interrupted.

    While Snakemake asks SLURM for its jobs' states, the jobs are on none of its own lists; if interrupted then, it exits without
    cancelling them.
    """
    if workflow.executor_plugin.name == "slurm":
        # The plugin gives all jobs of one Snakemake run the same unique name.
        name = workflow.scheduler._executor.run_uuid
        subprocess.run(["scancel", f"--name={name}"], check=False, timeout=60)


def show_failed_logs(snakemake_logs):
    """Print the last lines of each failed job's log, found through Snakemake's own logs: in a notebook, the user sees no other."""
    said = "\n".join(Path(name).read_text(encoding="utf-8", errors="replace") for name in snakemake_logs)
    for names in dict.fromkeys(re.findall(r"^ +log: (.+?) \(check log file", said, re.MULTILINE)):
        # On SLURM there are two: the rule's own, and all that the job printed.
        for path in map(Path, names.split(", ")):
            lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines() if path.is_file() else []
            print(f"{path} ends:", *(f"    {line}" for line in lines[-5:] or ["(it says nothing)"]), sep="\n", file=sys.stderr)
