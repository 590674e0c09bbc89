"""`make doctor` finds obstacles and names the way out."""

import shutil

import pytest
import yaml

import doctor


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, without importing any framework: that takes seconds, and one test does it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examined(capsys, place, config: dict, *options: str) -> tuple[int, str]:
    (place / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    status = doctor.main(["--config", "mine.yaml", *options])
    return status, capsys.readouterr().out


def test_nothing_in_the_way(place, capsys):
    config = {"data": {"dataset": "digits"}, "variants": ["alexnet_mod"], "device": "cpu"}
    status, said = examined(capsys, place, config)
    assert status == 0 and said.endswith("all checks passed\n")
    assert "ok       pytorch: 2." in said and "ok       tensorflow: 2." in said and "ok       disk: " in said


def test_a_gpu_that_is_asked_for_and_not_there(place, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    status, said = examined(capsys, place, {"frameworks": ["pytorch"], "device": "cuda"})
    assert status == 1 and "1 check failed" in said
    assert "FAILED   pytorch: " in said and "sees no GPU -> device is cuda: run this on a GPU node" in said


def test_missing_files_and_folders_that_cannot_be_written(place, capsys, monkeypatch):
    (place / "results").write_text("a file where the folder should be", encoding="utf-8")
    config = {"frameworks": [], "data": {"archive": "no/such.tar.gz"}}
    monkeypatch.setattr(doctor, "frameworks", lambda config: [])
    status, said = examined(capsys, place, config | {"frameworks": ["pytorch"]})
    assert status == 1
    assert "FAILED   data.archive: 'no/such.tar.gz' does not exist" in said
    assert "FAILED   results: cannot be written: " in said


def test_too_little_disk(place, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "frameworks", lambda config: [])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    status, said = examined(capsys, place, {"data": {"dataset": "digits"}})
    assert status == 1 and "FAILED   disk: 0.0 GB free, 3.4 GB wanted for one run -> make room in" in said


@pytest.mark.parametrize(("job", "level"), [(None, "warning "), ("7", "FAILED  ")])
def test_the_profiles_gpu_is_missed_inside_a_job_alone(place, capsys, monkeypatch, job, level):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setattr(doctor, "cluster", lambda profile, configs: [])
    (place / "config.yaml").write_text("executor: slurm\nconfig:\n  device: cuda\n", encoding="utf-8")
    config = {"frameworks": ["pytorch"], "data": {"dataset": "digits"}}
    status, said = examined(capsys, place, config, "--profile", str(place))
    assert status == bool(job) and f"{level} pytorch: " in said


def test_no_slurm_on_this_machine(place, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "frameworks", lambda config: [])
    monkeypatch.setenv("PATH", str(place))
    (place / "config.yaml").write_text("executor: slurm\n", encoding="utf-8")
    status, said = examined(capsys, place, {"data": {"dataset": "digits"}}, "--profile", str(place))
    assert status == 0 and "config.yaml says executor: slurm, but sbatch is not on PATH -> run on a login node" in said


@pytest.mark.parametrize(
    ("says", "profile", "status", "line"),
    [
        (None, "use-conda: true", 1, "FAILED   conda: conda is not on PATH -> install conda 24.7.1 or later"),
        (None, "jobs: 1", 0, "warning  conda: conda is not on PATH -> fine without --use-conda, which needs 24.7.1 or later"),
        ("conda 23.11.0", "software-deployment-method: conda", 1, "FAILED   conda: 23.11.0 is too old -> install conda 24.7.1 or later"),
        ("conda 23.11.0", "jobs: 1", 0, "warning  conda: 23.11.0 is too old -> fine without --use-conda"),
        ("conda 24.11.3", "software-deployment-method: [conda]", 0, "ok       conda: 24.11.3"),
    ],
)
def test_conda(place, capsys, monkeypatch, says, profile, status, line):
    monkeypatch.setattr(doctor, "frameworks", lambda config: [])
    monkeypatch.setenv("PATH", str(place))
    if says:
        (place / "conda").write_text(f"#!/bin/sh\necho {says}\n", encoding="utf-8")
        (place / "conda").chmod(0o755)
    (place / "config.yaml").write_text(profile, encoding="utf-8")
    found, said = examined(capsys, place, {"data": {"dataset": "digits"}}, "--profile", str(place))
    assert found == status and line in said


def test_conda_is_to_be_what_snakemake_demands():
    from snakemake.deployment.conda import MIN_CONDA_VER

    assert doctor.CONDA == MIN_CONDA_VER
