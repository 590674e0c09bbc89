"""`make gpu-check`, as far as it can be tested without a GPU: its parts continue where they stopped, and its report says what was found."""

import json
import re
import subprocess
import sys

import pytest

from alexbench.backends import FRAMEWORKS
from alexbench.experiment.execution import Execution
from alexbench.files import InputError
from conftest import ROOT

sys.path.append(str(ROOT / "tests" / "benchmarks"))

import gpu_check
from gpu_check import Item


def options(tmp_path, *more: str):
    return gpu_check.parser().parse_args(["--device=cpu", f"--output={tmp_path}", *more])


def test_without_a_gpu_it_ends_with_one_line_that_says_who_sees_none(tmp_path, monkeypatch):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setitem(gpu_check.MODULES, "tensorflow", "not_installed")
    with pytest.raises(
        InputError, match=r"^gpu-check: no GPU: .*pytorch 2\S+ sees none; tensorflow is not installed\. Check nvidia-smi"
    ) as raised:
        gpu_check.main([f"--output={tmp_path}"])
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_a_python_without_the_libraries_says_so_in_one_line():
    command = [sys.executable, "-I", "-S", gpu_check.__file__]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("gpu-check: ") and "is not installed for" in done.stderr


def item(name: str, code: str, **more) -> Item:
    return Item("checks", "pytorch", name, [sys.executable, "-c", code], **more)


def test_a_part_keeps_within_its_time_and_goes_on_where_it_stopped(tmp_path):
    kept = tmp_path / "records.jsonl"
    items = [
        item("well", 'print(\'some noise\'); print(\'{"says": "fine", "number": 3}\')', about=(3,), place=(("variant", "alexnet"),)),
        item("wrong", "raise SystemExit('no libdevice')"),
        item("skipped", 'print(\'{"status": "skipped", "says": "none here"}\')'),
        item("hangs", "import time; time.sleep(60)", limit=0.5),
        item("mute", "pass"),
    ]
    records: dict = {}
    assert gpu_check.run_part(options(tmp_path), "checks", items[:4], records, kept, "a GPU") == []
    assert {record["name"]: record["status"] for record in records.values()} == {
        "well": "ok",
        "wrong": "failed",
        "skipped": "skipped",
        "hangs": "failed",
    }
    well = records["checks/pytorch/well"]
    assert (well["says"], well["number"], well["variant"], well["device_name"]) == ("fine", 3, "alexnet", "a GPU")
    assert records["checks/pytorch/wrong"]["says"] == "no libdevice" and "longer than" in records["checks/pytorch/hangs"]["says"]
    # Another call, after a kill that cut the last line short: what is done is not repeated.
    with kept.open("a", encoding="utf-8") as file:
        file.write('{"key": "che')
    records = gpu_check.read(kept)
    done = {key: dict(record) for key, record in records.items()}
    assert gpu_check.run_part(options(tmp_path), "checks", items, records, kept, "a GPU") == []
    assert {key: records[key] for key in done} == done and records["checks/pytorch/mute"]["status"] == "ok"
    # No time: everything is left.
    assert gpu_check.run_part(options(tmp_path, "--minutes=0"), "checks", items, {}, kept, "a GPU") == [i.key for i in items]


def measured(step: str, seconds: float, precision: str = "fp32", variant: str = "alexnet", framework: str = "pytorch", **more) -> dict:
    place = {"variant": variant, "precision": precision, "step": step, "round": more.get("round", 1), "deterministic": False}
    row = {"loader_seconds": 1e-6, "step_seconds": 2 * seconds, "together_seconds": seconds, "first_step_seconds": 3.0}
    name = f"{variant} {precision} {step} {place['round']}"
    about = {"key": f"switches/{framework}/{name}", "part": "switches", "framework": framework, "name": name, "status": "ok", "about": [4]}
    return about | {"device_name": "a GPU", "wall_seconds": 9.0, "says": ""} | place | row


def test_the_report_says_what_failed_what_was_skipped_and_what_belongs_to_the_fast_step(tmp_path):
    found = []
    for number in (1, 2):
        # Added to the plain step it hardly shows, since every step is waited for: what counts is its effect on the fast step.
        found += [measured("plain", 1e-4, round=number), measured("plain+cuda_graph", 1e-4, round=number)]
        found += [measured("fast", 8e-5, round=number), measured("fast+cuda_graph", 4e-5, round=number)]
        found += [measured("plain+fused_adam", 9e-5, round=number)]
        # Slower in one of two rounds.
        found += [measured("fast+channels_last", 7e-5 if number == 1 else 9e-5, round=number)]
        found += [measured("plain", 1e-4, "bf16", round=number), measured("fast", 8e-5, "bf16", round=number)]
        found += [measured("fast+channels_last", 5e-5, "bf16", round=number)]
    rows = gpu_check.timings({record["key"]: record for record in found})
    assert gpu_check.recommended(rows) == {
        "pytorch": {"cuda_graph": ["fp32"], "fused_adam": ["fp32"], "channels_last": ["bf16"]},
    }
    wrong = {
        "key": "checks/pytorch/compiled",
        "part": "checks",
        "framework": "pytorch",
        "name": "compiled",
        "status": "failed",
        "about": [3],
    }
    records = {record["key"]: record for record in [*found, wrong | {"wall_seconds": 1.0, "says": "no ptxas"}]}
    seen = {"pytorch": {"version": "2.13", "device_name": "a GPU"}}
    args = gpu_check.parser().parse_args([f"--output={tmp_path}"])
    gpu_check.write_report(args, seen, ["tensorflow is not installed"], records, ["aims/pytorch/alexnet tf32 fast"])
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for part in (
        "# First contact with a GPU: a GPU",
        "- checks/pytorch/compiled: no ptxas",
        "- tensorflow is not installed",
        "- aims/pytorch/alexnet tf32 fast: no time was left",
        '- `"cuda_graph"`: `fast={"cuda": (\'fp32\',)}`',
        "| 3 | a compiler is incomplete: libdevice or ptxas (XLA), Triton (torch.compile) | **failed**: checks/pytorch/compiled |",
        "| 7 | operations without a kernel for the GPU go to the CPU silently | not checked |",
        "| pytorch | alexnet | fast+cuda_graph | 0.0400 (2.50) |",
    ):
        assert part in text, part
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["fast"]["pytorch"]["channels_last"] == ["bf16"]
    assert len((tmp_path / "timings.csv").read_text(encoding="utf-8").splitlines()) == len(found) + 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_switch_is_measured_in_every_precision_and_none_that_the_gpu_has_not(framework, tmp_path):
    from alexbench import backends

    args = gpu_check.parser().parse_args([f"--output={tmp_path}", "--rounds=1"])
    known = backends.load(framework).switches
    steps = gpu_check.steps_of(framework, "cuda")
    args.steps = steps
    asked = [dict(item.place) for item in gpu_check.items_of_switches(args, framework, [])]
    there = {name for name, switch in known.items() if "cuda" in switch.devices}
    for precision in ("fp32", "tf32", "bf16"):
        found = {how["step"] for how in asked if how["precision"] == precision}
        assert found >= {"plain", "fast", *(f"plain+{name}" for name in there)}
    for step in steps:
        Execution(step=step).switches(known, "cuda")
    assert ("fast+cuda_graph" in steps) == ("cuda_graph" in known) and "fast+eager" not in steps


@pytest.mark.parametrize(("framework", "step"), [("pytorch", "fast"), ("tensorflow", "plain"), ("tensorflow", "per_image")])
def test_where_every_operation_runs_is_seen(framework, step, tmp_path):
    command = gpu_check.check_command(options(tmp_path), "placement", framework, "--precisions", "fp32", "--steps", step)
    status, found = gpu_check.run_process(command, 300)
    assert status == "ok", found
    kinds = " ".join(found["work"]).lower()
    assert "conv" in kinds and "pool" in kinds and ("mm" in kinds or "matmul" in kinds)
    assert all(places == ["CPU"] for places in found["work"].values())


def test_precisions_are_told_apart_by_their_results(tmp_path):
    found = gpu_check.check_precision("pytorch", "cpu", "fp32", "plain")
    assert found["status"] == "ok" and max(found["errors"].values()) < 2e-5
    # Rounding as in TF32 gives a larger error: where tf32 was asked for, such small errors mean that something computed in fp32.
    import numpy as np

    exact = np.random.default_rng(0).standard_normal((64, 64))
    rounded = (exact.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    assert 2e-5 < gpu_check.relative(rounded, exact) < 2e-2


def test_the_command_is_in_the_makefile_and_the_old_one_is_gone():
    told = subprocess.run(
        ["make", "--dry-run", "--always-make", "gpu-check", "PART=tests"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "gpu_check.py --part tests" in told.stdout
    texts = [ROOT / "Makefile", ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "scripts").rglob("*.py")]
    assert not any(re.search(r"\bbench-gpu\b", path.read_text(encoding="utf-8")) for path in texts)
