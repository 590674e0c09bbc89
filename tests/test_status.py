"""`make status` says about each run what its files say."""

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
    """An experiment of six runs, none of them started."""
    (tmp_path / "mine.yaml").write_text("variants: [alexnet_mod]\nresults: results/mine\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(experiment, seed: int):
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


def test_runs_that_have_not_begun_are_waiting(experiment, capsys):
    said = lines(capsys)
    assert said[-1] == "6 runs: 6 waiting" and len(said) == 7


def test_a_running_run_tells_epoch_speed_and_time_left(experiment, capsys):
    (run(experiment, 1) / "progress.json").write_text(json.dumps(PROGRESS | {"pid": os.getpid()}), encoding="utf-8")
    assert "running      epoch 3 of 15, 12,800 of 50,000 images, 200 images/s, about 1 h 01 min left, on " in lines(capsys)[0]
    (run(experiment, 1) / "progress.json").write_text(json.dumps(PROGRESS | {"stage": "starting", "pid": os.getpid()}), encoding="utf-8")
    assert "running      starting on " in lines(capsys)[0]


def test_a_killed_run_is_told_from_a_running_one(experiment, capsys):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (run(experiment, 1) / "progress.json").write_text(json.dumps(PROGRESS | {"pid": gone.pid}), encoding="utf-8")
    assert "interrupted  killed on " in lines(capsys)[0]
    path = run(experiment, 1) / "progress.json"
    path.write_text(json.dumps(PROGRESS | {"pid": 1, "hostname": "node7", "slurm_job_id": "42"}), encoding="utf-8")
    assert "running      epoch 3 of 15" in lines(capsys)[0]
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    (run(experiment, 1) / "checkpoint.safetensors").touch()
    said = lines(capsys)[0]
    assert "interrupted  killed on job 42 on node7, silent for 1 h 00 min; the same command goes on from its checkpoint" in said


def test_a_failed_run_shows_the_end_of_its_log(experiment, capsys):
    log(experiment, 1, "compiled\n\nTraceback\nMemoryError: no more\n")
    said = "\n".join(lines(capsys))
    assert "failed" in said and "      MemoryError: no more\n" in said
    assert "(logs/mine/runs/pytorch/alexnet_mod/seed1.log)" in said


def test_a_run_that_saved_itself_is_interrupted(experiment, capsys):
    log(experiment, 1, "epoch 1/3\ninterrupted by SIGTERM: saved after 1 epochs and 7 steps; the same command goes on from there\n")
    assert "interrupted  interrupted by SIGTERM: saved after 1 epochs" in lines(capsys)[0]


def test_finished_runs_tell_their_result(experiment, capsys):
    write_run(run(experiment, 1))
    write_run(run(experiment, 2), seed=2, status="diverged", accuracy=None, loss=None)
    said = lines(capsys)
    assert said[0].endswith("done         accuracy 0.6000, trained 1 min 40 s")
    assert said[1].endswith("done         diverged, trained 1 min 40 s")
    assert said[-1] == "6 runs: 4 waiting, 2 done"


@pytest.mark.parametrize("shut", ["results/mine", "results/mine/runs/pytorch", "logs/mine"])
def test_a_folder_that_one_may_not_enter_is_named(experiment, shut):
    (experiment / shut).mkdir(parents=True)
    (experiment / shut).chmod(0)
    done = run_script("status.py", "--config", "mine.yaml", cwd=experiment)
    assert done.returncode == 1
    assert done.stderr == f"results: {shut} cannot be read (Permission denied); ask its owner for access (chmod), or name another one\n"


def test_each_run_of_a_job_of_several_says_so(experiment, capsys, monkeypatch):
    """A job of many measurements is reported in one line."""
    many = " ".join(f"auto/alexnet_mod/{number}/pytorch" for number in range(1, 6))
    (experiment / "results/mine").mkdir(parents=True)
    (experiment / "results/mine/slurm_jobs.csv").write_text(
        "run,job,rule,cell,attempt\n"
        "a,41,train,pytorch/alexnet_mod/1 pytorch/alexnet_mod/2,1\n"
        "a,42,train,pytorch/alexnet_mod/3,1\n"
        f"a,43,time_steps,{many},1\n",
        encoding="utf-8",
    )
    known = [f"{number}|RUNNING|None|N/A|N/A|N/A|4:00:00|3:30:00|node1|gpu|gres:gpu:1|N/A|x|" for number in (41, 42, 43)]
    (experiment / "squeue").write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in known), encoding="utf-8")
    (experiment / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(experiment), prepend=os.pathsep)
    (run(experiment, 1) / "progress.json").write_text(json.dumps(PROGRESS | {"pid": os.getpid()}), encoding="utf-8")
    said = lines(capsys)
    on = "1 GPU on node1, 3 h 30 min of its time left"
    assert "running      epoch 3 of 15" in said[0] and said[0].endswith(f"; job 41, {on} (one job of 2 runs)")
    assert said[1].endswith(f"waiting      job 41, {on} (one job of 2 runs)") and said[2].endswith(f"waiting      job 42, {on}")
    assert [line.split("  ")[0] for line in said[6:]] == ["time_steps", "6 runs: 5 waiting, 1 running"]
    assert said[6].endswith(f"job 43, {on} auto/alexnet_mod/1/pytorch and 4 more")
