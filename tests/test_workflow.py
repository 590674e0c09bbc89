"""The Snakemake side: what is planned, what a change reruns, what an error says, and one small grid from end to end."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import yaml

from alexbench.experiment import weights
from alexbench.workflow import fingerprint
from conftest import AS_ANYBODY, CONDA, ROOT, SMALL, SNAKEMAKE, copy_of_the_workflow, planned, sha256, snakemake
from test_weights import torchvision_weights


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 120) -> None:
    """Wait for something that a running process should cause."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.1)


def test_the_default_plans_every_run_once(project):
    jobs = planned(snakemake(project, "-n"))
    assert jobs["train"] == 2 * 3 * 3
    assert (jobs["dataset"], jobs["weights"], jobs["collect"], jobs["plot_classes"]) == (1, 1, 1, 6)


def test_equal_time_trains_both_networks_and_the_first_once_more(project):
    jobs = planned(snakemake(project, "equal_time", "-n", config=SMALL | {"variants": ["alexnet_tuned"], "seeds": [1, 2]}))
    assert (jobs["train"], jobs["train_as_long"], jobs["compare_equal_time"]) == (2 * 2 * 2, 2 * 2, 1)


def test_equal_time_is_refused_before_any_job_where_the_schedule_has_to_know_its_end(project):
    config = SMALL | {"recipe": {"epochs": 2, "schedule": "one_cycle"}}
    done = snakemake(project, "equal_time", "-n", config=config)
    assert done.returncode and "config: recipe.schedule: one_cycle has to know the number of epochs" in done.stdout + done.stderr
    assert snakemake(project, "-n", config=config).returncode == 0


@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 2, 4), (1, 3, 2)])
def test_frameworks_times_variants_times_seeds(project, grid):
    frameworks, variants, seeds = grid
    config = SMALL | {
        "frameworks": ["pytorch", "tensorflow"][:frameworks],
        "variants": ["alexnet_mod", "alexnet", "alexnet_pretrained"][:variants],
        "seeds": list(range(seeds)),
    }
    assert planned(snakemake(project, "-n", config=config))["train"] == frameworks * variants * seeds


def test_the_demo_needs_no_weights_until_it_is_given_some(project):
    jobs = planned(snakemake(project, "-n", "--configfile", "config/demo.yaml"))
    assert jobs["train"] == 8 and "weights" not in jobs


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_the_demo_learns_from_other_seeds_too(project, framework):
    """With its small network, which is quick to train; config/demo.yaml gives the results of other seeds for the larger one."""
    demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
    run = f"results/demo/runs/{framework}/alexnet_mod/seed31/metrics.json"
    done = snakemake(project, "-c1", run, config=demo | {"seeds": [31]})
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((project / run).read_text(encoding="utf-8"))
    assert metrics["status"] == "completed" and metrics["accuracy"] > 0.3


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"variants": ["alexnett"]}, "config: variants: unknown variant 'alexnett', did you mean 'alexnet'?; choose from"),
        ({"recipe": {"epochs": 0}}, "config: recipe.epochs: 0 is out of range; give a number at least 1"),
        ({"execution": {"workers": 2}}, "config: execution.workers: 2 workers have nothing to do with input: resident; say"),
        ({"sedes": [1]}, "config: unknown key 'sedes', did you mean 'seeds'?; choose from results, frameworks,"),
        ({"data": {"archive": "no/such.tar.gz"}}, "config: data.archive: 'no/such.tar.gz' does not exist; give the path of"),
        ({"weights": {"source": "no/such.pth"}}, "config: weights.source: 'no/such.pth' does not exist; give the path of"),
    ],
)
def test_a_mistake_ends_the_run_before_any_job_with_one_line(project, config, says):
    done = snakemake(project, "-c1", config=config)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("config:")]
    assert len(lines) == 1 and lines[0].startswith(says)
    assert "Traceback" not in done.stderr and "Building DAG" not in done.stderr
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        # One training at a time, with the usual number of threads.
        (["-c1"], {"train": 4, "measure_parity": 4, "time_steps": 4}),
        (["-c1", "--set-threads", "train=3", "measure_parity=1", "time_steps=2"], {"train": 1, "measure_parity": 1, "time_steps": 2}),
        (["-c8", "--max-threads", "3"], {"train": 1, "measure_parity": 3, "time_steps": 3}),
    ],
)
def test_a_program_is_told_the_threads_that_its_rule_has(project, options, threads):
    config = SMALL | {"threads": 4, "frameworks": ["pytorch"], "execution": {"input": "per_image", "workers": 2}}
    config["speed"] = {"rounds": 1}
    done = snakemake(project, "-n", "-p", "all", "parity", "speed", *options, config=config)
    assert done.returncode == 0, done.stderr[-2000:]
    told = {name: int(count) for name, count in re.findall(r"scripts/(\w+)\.py .*--threads[= ](\d+)", done.stdout)}
    assert told == threads


def test_what_lies_in_the_working_directory_and_a_users_pythonpath_have_no_say(project, monkeypatch):
    """PYTHONSAFEPATH would hide the library from its programs; a PYTHONPATH with an empty part would put this folder first."""
    (project / "sklearn.py").write_text("raise SystemExit('the working directory was looked into')", encoding="utf-8")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    done = snakemake(project, "-c1", "resources/data/digits.npz", config=SMALL)
    assert done.returncode == 0, done.stderr[-2000:]


def test_keys_on_the_command_line_mean_what_they_mean_in_a_file(project):
    given = ["seeds=[1,2]", "recipe={epochs: 2, learning_rate: 1e-4, flips: true}", "data={dataset: digits, train_limit: 40}"]
    done = snakemake(project, "-n", "-p", "--config", "variants=[alexnet_mod]", *given)
    assert planned(done)["train"] == 2 * 2
    assert "--epochs=2 " in done.stdout and "--learning-rate=0.0001 " in done.stdout and "--flips " in done.stdout
    assert done.stdout.count("--train-limit=40 ") == 4
    done = snakemake(project, "-n", "--config", "epochs=3")
    assert done.stderr.splitlines()[-1].startswith("config: unknown key 'epochs', did you mean 'recipe.epochs' (recipe: {epochs: 3})?")


def test_jobs_need_no_python_on_the_path(project):
    """They run in the interpreter that runs Snakemake or, with conda, in that of their environment."""
    programs = {name: shutil.which(name) for name in ("bash", "sh", "tee", "which")}
    (project / "bin").mkdir()
    for name, path in programs.items():
        (project / "bin" / name).symlink_to(path)
    (project / "mine.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    command = [SNAKEMAKE, "resources/data/digits.npz", "-c1", "--configfile", "mine.yaml"]
    environment = os.environ | {"PATH": str(project / "bin")}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (project / "resources/data/digits.npz").exists()
    conda = project / "bin" / "conda"
    conda.write_text(CONDA, encoding="utf-8")
    conda.chmod(0o755)
    done = subprocess.run(
        [*command, "-n", "-p", "--use-conda", "--forceall"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert "python -E -s scripts/prepare_data.py" in done.stdout and "/python " not in done.stdout


def test_graphs_are_drawn_with_nothing_installed(project):
    assert snakemake(project, "--dag", "mermaid-js", config=SMALL).stdout.count("train") == 2
    assert "digraph" in snakemake(project, "--rulegraph", "dot", config=SMALL).stdout


def test_one_command_makes_everything(finished):
    results = finished / "results" / "small"
    made = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file() and path.parent.name != "events"}
    runs = [f"runs/{framework}/alexnet_mod/seed1" for framework in ("pytorch", "tensorflow")]
    expected = {
        f"{run}/{file}" for run in runs for file in ("metrics.json", "history.csv", "predictions.npz", "model.safetensors", "model_card.md")
    }
    expected |= {"runs.csv", "table.csv", "table.md", "table.tex", "comparisons.csv", "comparisons.md", "classes.csv", "environment.json"}
    expected |= {"article.html", *(f"pages/{name}.html" for name in ("table", "comparisons", "classes", "runs", "environment", "code"))}
    figures = ["tradeoff", "learning", "time_to_accuracy", "calibration", "samples", "architectures", "intervals", "clocks"]
    figures += [f"{kind}/{framework}-alexnet_mod" for kind in ("classes", "mistakes") for framework in ("pytorch", "tensorflow")]
    # Another test makes the report.
    assert made - {"report.html"} == expected | {f"figures/{figure}.{suffix}" for figure in figures for suffix in ("png", "svg")}
    table = pd.read_csv(results / "table.csv")
    assert table.framework.tolist() == ["pytorch", "tensorflow"] and table.train_images.tolist() == [40, 40]
    assert json.loads((results / "environment.json").read_text(encoding="utf-8"))["snakemake"] == version("snakemake")
    log = (finished / "logs/small/runs/pytorch/alexnet_mod/seed1.log").read_text(encoding="utf-8")
    assert "epoch 1/1  train loss" in log
    top = {path.name for path in finished.iterdir()} - {"Snakefile", "config", "rules", "scripts", "envs", "mine.yaml", ".snakemake"}
    assert top == {"results", "logs", "benchmarks", "resources"}


def test_the_smallest_campaign_comes_to_its_end(project):
    """With one framework and one network there is nothing to compare, but every table and page is made."""
    done = snakemake(project, "-c2", config=SMALL | {"frameworks": ["pytorch"]})
    assert done.returncode == 0, done.stderr[-3000:]
    compared = pd.read_csv(project / "results/small/comparisons.csv")
    assert compared.empty and "words" in compared
    assert "nothing to compare" in (project / "results/small/pages/comparisons.html").read_text(encoding="utf-8")
    assert (project / "results/small/article.html").stat().st_size > 0
    told = "The article: results/small/article.html  Tables: results/small/table.md  Every run: results/small/runs.csv  Figures: results/"
    assert told in done.stdout


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in snakemake(finished, "-n", config=SMALL).stdout


def dry_run_after(finished: Path, tmp_path: Path, changed: dict[str, tuple[str, str]], config: dict = SMALL):
    """A dry run after replacing text in some files."""
    folder = tmp_path / "changed"
    shutil.copytree(finished, folder)
    for name, (old, new) in changed.items():
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} no longer holds {old!r}"
        before = path.stat()
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = snakemake(folder, "-n", config=config)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def trained_again(finished: Path, tmp_path: Path, changed: dict[str, tuple[str, str]], config: dict = SMALL) -> set[str]:
    """Frameworks that are planned to be trained again after replacing text in some files."""
    done = dry_run_after(finished, tmp_path, changed, config)
    jobs = (done.stdout + done.stderr).split("rule train:")[1:]
    return {job.split("framework=")[1].split(",")[0] for job in jobs}


BACKEND = "scripts/alexbench/backends/pytorch.py"


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({BACKEND: ("# Adam's constants", "# The constants of Adam")}, set()),
        ({BACKEND: ('"""See `alexbench.backends.Backend`."""', '"""Another text."""')}, set()),
        ({BACKEND: ("betas=(0.9, 0.999)", "betas=(0.9, 0.99)")}, {"pytorch"}),
        ({"scripts/alexbench/training/loop.py": ("inv_cdf(0.975)", "inv_cdf(0.995)")}, {"pytorch", "tensorflow"}),
        ({"scripts/alexbench/experiment/variants.py": ("Dense(512),", "Dense(256),")}, {"pytorch", "tensorflow"}),
        ({"scripts/alexbench/experiment/variants.py": ("Dense(4096),", "Dense(2048),")}, set()),
        ({"scripts/alexbench/experiment/variants.py": ('title="AlexNet mod. (32)"', 'title="Small AlexNet"')}, set()),
    ],
    ids=["comment", "docstring", "backend", "loop", "variant", "other variant", "title"],
)
def test_a_change_trains_again_just_what_it_touches(finished, tmp_path, changed, again):
    assert trained_again(finished, tmp_path, changed) == again


LEARNING = "scripts/plot_learning.py"


@pytest.mark.parametrize(
    ("changed", "again", "not_again"),
    [
        ({LEARNING: ('"""', '"""Another text. ')}, set(), {"plot_learning"}),
        ({LEARNING: ("import", "import math\nimport")}, {"plot_learning", "write_article"}, {"train", "collect", "plot_tradeoff"}),
        ({"scripts/alexbench/analysis/stats.py": ("0.95", "0.90")}, {"collect", "compare"}, {"train", "dataset", "plot_samples"}),
        ({"scripts/alexbench/writing/pages/style.css": ("color", "colour")}, {"write_article", "show_results"}, {"train", "plot_tradeoff"}),
    ],
    ids=["docstring", "figure", "statistics", "style"],
)
def test_a_change_draws_again_what_it_touches(finished, tmp_path, changed, again, not_again):
    jobs = planned(dry_run_after(finished, tmp_path, changed))
    assert again <= set(jobs) and not not_again & set(jobs)


def test_another_recipe_trains_again(finished, tmp_path):
    assert trained_again(finished, tmp_path, {}, SMALL | {"recipe": {"epochs": 2, "batch_size": 16}}) == {"pytorch", "tensorflow"}


def test_a_gpu_that_is_shared_from_now_on_trains_nothing_again(finished):
    done = snakemake(finished, "-n", "-p", "--resources", "gpu=2", config=SMALL | {"seeds": [1, 2], "runs_per_gpu": 2})
    assert planned(done)["train"] == 2 and done.stdout.count("--runs-per-gpu 2 ") == 2
    assert "Nothing to be done" in snakemake(finished, "-n", config=SMALL | {"runs_per_gpu": 2}).stdout


def test_one_more_seed_trains_that_seed_alone(finished):
    jobs = planned(snakemake(finished, "-n", config=SMALL | {"seeds": [1, 2]}))
    assert jobs["train"] == 2


def test_moving_the_project_trains_nothing_again(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "moved")
    assert "Nothing to be done" in snakemake(tmp_path / "moved", "-n", config=SMALL).stdout


@pytest.mark.parametrize(
    "age",
    [lambda path: 1000 if "results" in path.parts else 0, lambda path: zlib.crc32("/".join(path.parts[-3:]).encode()) % 1000],
    ids=["all is newer than the results", "each file has another time"],
)
def test_the_time_of_a_file_trains_nothing_again(finished, tmp_path, age):
    folder = tmp_path / "touched"
    shutil.copytree(finished, folder)
    now = time.time()
    for path in folder.rglob("*"):
        if ".snakemake" not in path.parts:
            os.utime(path, (now - age(path),) * 2)
    done = snakemake(folder, "-n", config=SMALL)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "rule train:" not in done.stdout and "rule dataset:" not in done.stdout


def test_a_plain_copy_trains_nothing_again(finished, tmp_path):
    subprocess.run(["cp", "-r", finished, tmp_path / "copy"], check=True)
    done = snakemake(tmp_path / "copy", "-n", config=SMALL)
    assert done.returncode == 0 and "rule train:" not in done.stdout and "rule dataset:" not in done.stdout


def test_purged_data_train_nothing_again(finished, tmp_path):
    purged = tmp_path / "purged"
    shutil.copytree(finished, purged, ignore=shutil.ignore_patterns("resources"))
    assert "Nothing to be done" in snakemake(purged, "-n", config=SMALL).stdout
    # Prepared again on their own, the files are as before, also for a further seed. (In the same run as that, all seeds would be trained.)
    done = snakemake(purged, "-c1", "prefetch", config=SMALL)
    assert done.returncode == 0 and "article.html" not in done.stdout + done.stderr, "names a page that this run did not make"
    assert planned(snakemake(purged, "-n", config=SMALL | {"seeds": [1, 2]}))["train"] == 2


PRETRAINED = {
    "results": "results/pretend",
    "frameworks": ["pytorch"],
    "variants": ["alexnet_pretrained"],
    "seeds": [1],
    "data": {"archive": "cifar.tar.gz"},
    "weights": {"source": "alexnet.pth", "sha256": None},
}
RUN = "results/pretend/runs/pytorch/alexnet_pretrained/seed1"
WEIGHTS = "resources/weights/alexnet_pretrained-pretrained.safetensors"


@pytest.fixture(scope="module")
def pretended(tmp_path_factory) -> Path:
    """A project in which Snakemake believes that one pretrained network was trained: the files that it would find and know are there."""
    folder = copy_of_the_workflow(tmp_path_factory.mktemp("pretended"))
    for name in ("cifar.tar.gz", "alexnet.pth", "other"):
        (folder / name).write_text(f"source {name}", encoding="utf-8")
    for name in ("resources/data/cifar10.npz", WEIGHTS):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("prepared", encoding="utf-8")
        fingerprint.note(folder / name)
    (folder / RUN).mkdir(parents=True)
    for name in ("metrics.json", "history.csv", "predictions.npz", "model.safetensors"):
        (folder / RUN / name).write_text("trained", encoding="utf-8")
    done = snakemake(folder, "-c1", "--touch", "--forceall", f"{RUN}/metrics.json", config=PRETRAINED)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize(
    ("rewritten", "config", "again"),
    [
        (None, {}, set()),
        ("cifar.tar.gz", {}, {"dataset", "train"}),
        ("alexnet.pth", {}, {"weights", "train"}),
        ("resources/data/cifar10.npz", {}, {"train"}),
        (WEIGHTS, {}, {"train"}),
        (None, {"data": {"archive": "other"}}, {"dataset", "train"}),
        (None, {"weights": {"source": "other", "sha256": None}}, {"weights", "train"}),
    ],
    ids=["nothing", "archive", "weights", "prepared data", "prepared weights", "another archive", "other weights"],
)
def test_what_a_training_starts_from_counts_by_its_content(pretended, tmp_path, rewritten, config, again):
    """Other bytes in the same place (even if older than the results) or another place cause a training; new time stamps do not."""
    folder = tmp_path / "changed"
    shutil.copytree(pretended, folder)
    for name in ("cifar.tar.gz", "alexnet.pth", "resources/data/cifar10.npz", WEIGHTS):
        (folder / name).touch()
    if rewritten:
        (folder / rewritten).write_text("others", encoding="utf-8")
        os.utime(folder / rewritten, (0, 0))
    done = snakemake(folder, "-n", f"{RUN}/metrics.json", config=PRETRAINED | config)
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(re.findall(r"^(?:local)?rule (\w+):", done.stdout, re.MULTILINE)) == again


def test_weights_that_cannot_be_had_end_the_run_and_say_what_to_set(finished, tmp_path):
    """Nothing listens on that port; nothing may be trained from a random start instead."""
    folder = tmp_path / "offline"
    shutil.copytree(finished, folder)
    config = SMALL | {"variants": ["alexnet_pretrained"], "weights": {"source": "http://127.0.0.1:9/alexnet-owt-7be5be79.pth"}}
    done = snakemake(folder, "-c2", config=config)
    assert done.returncode == 1
    log = (folder / "logs/weights/alexnet_pretrained-pretrained.log").read_text(encoding="utf-8")
    assert "weights.source: cannot download" in log and "set weights.source to a file" in log
    assert not list(folder.rglob("alexnet_pretrained/seed*/*")) and not list((folder / "resources").rglob("*.safetensors"))


def test_another_url_with_the_same_last_part_is_prepared_again(project, server):
    """Without a hash to tell them apart, and in the same run that finds the configuration changed."""
    target = "resources/weights/alexnet_pretrained-fresh.safetensors"
    server.files |= {"one/a.pth": torchvision_weights(1), "two/a.pth": torchvision_weights(2)}
    for path, content in server.files.items():
        source = {"source": server.url(path), "sha256": None, "classifier": "fresh"}
        done = snakemake(project, "-c1", target, config=SMALL | {"variants": ["alexnet_pretrained"], "weights": source})
        assert done.returncode == 0, done.stderr
        assert weights.read(project / target)[1]["source_sha256"] == sha256(content)


def test_a_broken_archive_ends_the_run_and_names_it(project):
    (project / "cifar-10-python.tar.gz").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    done = snakemake(project, "-c1", config={"data": {"archive": "cifar-10-python.tar.gz"}, "variants": ["alexnet_mod"]})
    assert done.returncode == 1
    log = (project / "logs/data/cifar10.log").read_text(encoding="utf-8")
    assert log.startswith("cifar10: cifar-10-python.tar.gz is an HTML page") and "Traceback" not in log
    assert f"logs/data/cifar10.log ends:\n    {log.splitlines()[-1]}\n" in done.stderr
    assert not list((project / "resources").rglob("*.npz"))


def test_a_killed_snakemake_needs_no_unlock_and_a_live_one_keeps_others_out(finished, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(finished, folder)
    config = SMALL | {"results": "results/killed", "frameworks": ["pytorch"], "recipe": {"epochs": 3, "batch_size": 4}}
    run = folder / "results/killed/runs/pytorch/alexnet_mod/seed1"
    command = ("-c1", str((run / "metrics.json").relative_to(folder)))
    (folder / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = os.environ | {"PATH": f"{SNAKEMAKE.parent}{os.pathsep}{os.environ['PATH']}"}
    with (folder / "first.out").open("w", encoding="utf-8") as said:
        first = subprocess.Popen([SNAKEMAKE, *command, "--configfile", "mine.yaml"], cwd=folder, env=environment, stdout=said, stderr=said)
    wait_until((run / "checkpoint.safetensors").exists, first)
    training = json.loads((run / "progress.json").read_text(encoding="utf-8"))["pid"]
    os.kill(training, signal.SIGSTOP)  # so that it does not end in the meantime

    # While alive, it keeps out a second one, which says who is in the way; commands that only look are not blocked.
    second = snakemake(folder, *command, config=config)
    assert second.returncode == 1 and "LockException" in second.stderr
    assert f"Another Snakemake is at work in this folder: process {first.pid} on {socket.gethostname()}" in second.stderr
    for look in (["-n"], ["--dag", "dot"], ["--lint"]):
        done = snakemake(folder, *look, config=config)
        assert done.returncode == 0, done.stderr[-2000:]
    assert first.poll() is None and list((folder / ".snakemake/locks").iterdir())

    # Killed, together with the training that it had started.
    first.kill()
    first.wait()
    os.kill(training, signal.SIGKILL)
    assert list((folder / ".snakemake/locks").iterdir())
    done = snakemake(folder, *command, config=config)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8"))["interruptions"] == 1


def test_slurm_without_its_commands_ends_before_the_first_job_and_says_so(project, tmp_path):
    """The profile on a machine that is no login node; a dry run, which needs no SLURM, still works there."""
    shutil.copytree(ROOT / "profiles", project / "profiles")
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            if program.name not in ("sbatch", "squeue", "scancel", "sinfo", "sacct") and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    command = [SNAKEMAKE, "--profile", "profiles/slurm", "--configfile", "config/demo.yaml"]

    def run(*more: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PATH": str(programs)}
        return subprocess.run(
            [*command, *more], cwd=project, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
        )

    done = run()
    assert done.returncode == 1
    assert "executor: slurm, as the profile says, needs sbatch, squeue, scancel, not found on PATH; start on" in done.stderr
    assert "Traceback" not in done.stderr and not list(project.rglob("*.npz")) and not list(project.glob("logs/*"))
    assert planned(run("-n"))["train"] == 8


def test_lint_has_nothing_to_say(project):
    done = snakemake(project, "--lint")
    assert done.returncode == 0, done.stdout


def test_only_what_trains_or_measures_is_a_job_of_a_cluster(rules):
    """Every other rule declares itself local, because `use rule` with changes does not pass that on."""
    assert {name for name, rule in rules.items() if not rule["local"]} == {"train", "train_as_long", "measure_parity", "time_steps"}


@pytest.mark.parametrize("shut", ["results/small", "results/small/runs/pytorch", "resources/data"])
def test_a_folder_that_one_may_not_enter_is_named_and_nothing_is_planned_again(project, shut):
    (project / shut).mkdir(parents=True)
    (project / shut).chmod(0)
    (project / "mine.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    command = [*AS_ANYBODY, SNAKEMAKE, "-n", "--configfile", "mine.yaml"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "train" not in done.stdout + done.stderr
    assert f"{shut} cannot be " in done.stderr and "(Permission denied)" in done.stderr
