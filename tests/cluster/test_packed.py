"""Several small trainings in one job: on one GPU at the same time, or one after the other, as the shipped profile describes."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
import slurm
from on_cluster import ENVIRONMENT, FAST_SNAKEMAKE, FOUR, ON_CLUSTER, bring_up, copy_of_project, doctors_failures

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SMALLER = FOUR | {
    "data": FOUR["data"] | {"train_limit": 40, "test_limit": 20},
    "recipe": {"epochs": 1, "batch_size": 16},
    "outputs": {"model": False, "tensorboard": False},
    "equal_time": {"variant": "alexnet_mod", "as_long_as": "alexnet"},
}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    yield from bring_up()


def uncommented(project: Path, *changes: tuple[str, str], together: int = 2) -> None:
    """Uncomment the profile's lines on packing, with `together` runs per job, and apply `changes` to them."""
    path = project / "profiles/slurm/config.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in (
        ("# groups: train", "groups: train"),
        ("# group-components: packed=4", f"group-components: packed={together}"),
        *changes,
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


SHARED = ("  train: &gpu\n", "  train: &gpu\n    gpu: 0\n    gres: \"'gpu:1'\"\n    mem_mb: 2000 * attempt\n    runtime: 30\n")
IN_TURN = [
    ("  train: &gpu\n", "  train: &gpu\n    mem_mb: 2000 * attempt\n    runtime: 30\n"),
    ("# set-resource-scopes: gpu", "set-resource-scopes: gpu"),
    ("  gpu: 20\n", "  gpu: 1\n"),
]


@pytest.mark.parametrize(
    ("changes", "runs_per_gpu", "asked"),
    [([SHARED], 2, (2, 4000, "00:30:00")), pytest.param(IN_TURN, 1, (1, 2000, "01:00:00"), marks=pytest.mark.long)],
    ids=["on one GPU at once", "one after the other"],
)
def test_four_trainings_make_two_jobs_of_a_gpu_each(tmp_path, changes, runs_per_gpu, asked):
    project = copy_of_project(tmp_path / "project", SMALLER | {"runs_per_gpu": runs_per_gpu})
    uncommented(project, *changes)
    before = {job.id for job in slurm.jobs()}
    command = [*FAST_SNAKEMAKE, "results/four/table.md", "--retries", "0", *ON_CLUSTER]
    done = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    jobs = [job for job in slurm.jobs() if job.id not in before]
    assert [(job.state, job.gpu_count, job.cpus, job.memory_mb, job.time_limit) for job in jobs] == 2 * [("COMPLETED", 1, *asked)]
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in project.glob("results/four/runs/*/*/*/metrics.json")]
    assert len(runs) == 4 and {run["runs_per_gpu"] for run in runs} == {runs_per_gpu}
    said = (project / "results/four/table.md").read_text(encoding="utf-8")
    assert ("Runs shared a GPU, 2 at a time" in said) == (runs_per_gpu == 2)
    # The accounting lists the runs of every job, each run once.
    with (project / "results/four/costs.csv").open(newline="", encoding="utf-8") as file:
        costs = list(csv.DictReader(file))
    assert [row["rule"] for row in costs] == ["train", "train"] and {row["job"] for row in costs} == {str(job.id) for job in jobs}
    assert sorted(run for row in costs for run in row["cell"].split()) == [f"pytorch/alexnet_mod/{seed}" for seed in SMALLER["seeds"]]
    by_job = {str(run["slurm_job_id"]): set() for run in runs}
    for run in runs:
        by_job[str(run["slurm_job_id"])].add(f"pytorch/alexnet_mod/{run['seed']}")
    assert by_job == {row["job"]: set(row["cell"].split()) for row in costs}
    assert doctors_failures(project) == []
