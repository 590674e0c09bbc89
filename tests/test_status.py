"""`make status` says of each cell what its files say."""

import json
import os
import socket
import subprocess
import sys

import pytest

import status
from conftest import run_script, write_run


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment of six cells, none begun."""
    (tmp_path / "mine.yaml").write_text("variants: [alexnet_mod]\nresults: results/mine\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cell(experiment, seed: int):
    folder = experiment / f"results/mine/runs/pytorch/alexnet_mod/seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def log(experiment, seed: int, text: str) -> None:
    path = experiment / f"logs/mine/runs/pytorch/alexnet_mod/seed{seed}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def lines(capsys) -> list[str]:
    assert status.main(["--config", "mine.yaml"]) == 0
    return capsys.readouterr().out.splitlines()


PROGRESS = {
    "stage": "training",
    "epoch": 3,
    "epochs": 15,
    "images": 12800,
    "epoch_images": 50000,
    "images_per_second": 200.0,
    "seconds_left": 3700.0,
    "interruptions": 0,
    "hostname": socket.gethostname(),
    "slurm_job_id": None,
}


def test_cells_that_have_not_begun_are_waiting(experiment, capsys):
    said = lines(capsys)
    assert said[-1] == "6 cells: 6 waiting" and len(said) == 7


def test_a_running_cell_tells_epoch_speed_and_time_left(experiment, capsys):
    (cell(experiment, 1) / "progress.json").write_text(json.dumps(PROGRESS | {"pid": os.getpid()}), encoding="utf-8")
    assert "running      epoch 3 of 15, 12,800 of 50,000 images, 200 images/s, about 1 h 01 min left, on " in lines(capsys)[0]
    (cell(experiment, 1) / "progress.json").write_text(json.dumps(PROGRESS | {"stage": "starting", "pid": os.getpid()}), encoding="utf-8")
    assert "running      starting on " in lines(capsys)[0]


def test_a_killed_cell_is_told_from_a_running_one(experiment, capsys):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (cell(experiment, 1) / "progress.json").write_text(json.dumps(PROGRESS | {"pid": gone.pid}), encoding="utf-8")
    assert "interrupted  killed on " in lines(capsys)[0]
    path = cell(experiment, 1) / "progress.json"
    path.write_text(json.dumps(PROGRESS | {"pid": 1, "hostname": "node7", "slurm_job_id": "42"}), encoding="utf-8")
    assert "running      epoch 3 of 15" in lines(capsys)[0]
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    (cell(experiment, 1) / "checkpoint.safetensors").touch()
    said = lines(capsys)[0]
    assert "interrupted  killed on job 42 on node7, silent for 1 h 00 min; the same command goes on from its checkpoint" in said


def test_a_failed_cell_shows_the_end_of_its_log(experiment, capsys):
    log(experiment, 1, "compiled\n\nTraceback\nMemoryError: no more\n")
    said = "\n".join(lines(capsys))
    assert "failed" in said and "      MemoryError: no more\n" in said
    assert "(logs/mine/runs/pytorch/alexnet_mod/seed1.log)" in said


def test_a_cell_that_saved_itself_is_interrupted(experiment, capsys):
    log(experiment, 1, "epoch 1/3\ninterrupted by SIGTERM: saved after 1 epochs and 7 steps; the same command goes on from there\n")
    assert "interrupted  interrupted by SIGTERM: saved after 1 epochs" in lines(capsys)[0]


def test_finished_cells_tell_their_result(experiment, capsys):
    write_run(cell(experiment, 1))
    write_run(cell(experiment, 2), seed=2, status="diverged", accuracy=None, loss=None)
    said = lines(capsys)
    assert said[0].endswith("done         accuracy 0.6000, trained 1 min 40 s")
    assert said[1].endswith("done         diverged, trained 1 min 40 s")
    assert said[-1] == "6 cells: 4 waiting, 2 done"


@pytest.mark.parametrize("shut", ["results/mine", "results/mine/runs/pytorch", "logs/mine"])
def test_a_folder_that_one_may_not_enter_is_named(experiment, shut):
    (experiment / shut).mkdir(parents=True)
    (experiment / shut).chmod(0)
    done = run_script("status.py", "--config", "mine.yaml", cwd=experiment)
    assert done.returncode == 1
    assert done.stderr == f"results: {shut} cannot be read (Permission denied); ask its owner for access (chmod), or name another one\n"
