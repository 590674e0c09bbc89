"""The workflow on a SLURM that accepts only jobs for known accounts, as most clusters do."""

import json
import re
import subprocess

import pytest
import slurm
from on_cluster import ENVIRONMENT, FAST_SNAKEMAKE, ON_CLUSTER, bring_up, copy_of_project, doctors_failures

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

# One run, as small as possible.
RUN = "results/one/runs/pytorch/alexnet_mod/seed1/metrics.json"
ONE = {
    "results": "results/one",
    "frameworks": ["pytorch"],
    "variants": ["alexnet_mod"],
    "seeds": [1],
    "data": {"dataset": "digits", "train_limit": 40, "test_limit": 20},
    "recipe": {"epochs": 1, "batch_size": 16},
    "device": "auto",
    "threads": 1,
}


REFUSED = "Invalid account or account/partition combination specified"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    yield from bring_up(accounting=True)


@pytest.fixture
def project(tmp_path):
    return copy_of_project(tmp_path / "project", ONE)


def change_profile(project, old: str, new: str) -> None:
    path = project / "profiles/slurm/config.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def run(project) -> subprocess.CompletedProcess:
    command = [*FAST_SNAKEMAKE, RUN, *ON_CLUSTER, "--retries", "0"]
    return subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False, timeout=180)


def test_an_unknown_account_is_told_by_snakemake_and_by_the_doctor(project):
    change_profile(project, "# slurm_account: my_project", "slurm_account: nobodys")
    done = run(project)
    assert done.returncode == 1
    assert "The given account nobodys appears to be invalid. Available accounts:" in done.stderr + done.stdout
    failures = doctors_failures(project)
    assert failures
    for line in failures:
        assert "The given account nobodys appears to be invalid. Available accounts:" in line
        assert re.search(r" -> set slurm_account for \w+ in profiles/slurm/config.yaml$", line)


def test_an_account_that_the_partition_does_not_take_is_told_in_slurms_words(project):
    change_profile(project, "# slurm_account: my_project", f"slurm_account: {slurm.ACCOUNT}")
    slurm.command("scontrol", "update", "PartitionName=gpu", "AllowAccounts=others")
    try:
        done = run(project)
        failures = doctors_failures(project)
    finally:
        slurm.command("scontrol", "update", "PartitionName=gpu", "AllowAccounts=ALL")
    assert done.returncode == 1 and REFUSED in done.stderr + done.stdout
    assert failures
    for line in failures:
        assert REFUSED in line and re.search(r" -> set slurm_partition or slurm_account for \w+ in profiles/slurm/config.yaml$", line)


def test_a_known_account_is_charged_and_sacct_watches_the_jobs(project):
    change_profile(project, "# slurm_account: my_project", f"slurm_account: {slurm.ACCOUNT}")
    change_profile(project, "slurm-status-command: squeue", "slurm-status-command: sacct")
    assert doctors_failures(project) == []
    done = run(project)
    assert done.returncode == 0, done.stderr[-3000:]
    assert account_of_job(project) == slurm.ACCOUNT


def test_without_an_account_in_the_profile_the_users_own_default_is_charged(project):
    default = slurm.command("sacctmgr", "--noheader", "--parsable2", "show", "user", "root", "format=defaultaccount").strip()
    assert default != slurm.ACCOUNT
    assert doctors_failures(project) == []
    done = run(project)
    assert done.returncode == 0, done.stderr[-3000:]
    assert account_of_job(project) == default


def account_of_job(project) -> str:
    """The account that the run's job was charged to, according to SLURM's records."""
    job = json.loads((project / RUN).read_text(encoding="utf-8"))["slurm_job_id"]
    said = slurm.command("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=account,state")
    account, state = said.strip().split("|")
    assert state == "COMPLETED"
    return account
