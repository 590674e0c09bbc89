"""Settings that exclude each other are refused before anything runs, and the fast step contains what the documentation says."""

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

import train
from alexbench import backends
from alexbench.backends import FRAMEWORKS
from alexbench.experiment.execution import Execution, Switch
from alexbench.files import InputError
from alexbench.training import speed
from alexbench.workflow import configuration
from conftest import ROOT

TEXT = {"deterministic": "`execution.deterministic: true`", "per_image": "`execution.input: per_image`"}


def told(framework: str, device: str, **asked) -> str:
    """The error for an execution; empty if it is accepted."""
    try:
        Execution(**asked).switches(backends.load(framework).switches, device)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("framework", "device", "asked", "both"),
    [
        ("tensorflow", "cpu", {"step": "fast+xla", "deterministic": True}, ("+xla", "execution.deterministic: true")),
        ("tensorflow", "cuda", {"step": "plain+xla", "deterministic": True}, ("+xla", "execution.deterministic: true")),
        ("tensorflow", "cpu", {"step": "plain+eager+xla"}, ("+xla", "+eager")),
        ("tensorflow", "cuda", {"step": "fast+xla+eager"}, ("+xla", "+eager")),
        ("tensorflow", "cpu", {"step": "plain+eager+asynchronous"}, ("+asynchronous", "+eager")),
        ("tensorflow", "cpu", {"step": "plain+onednn+no_onednn"}, ("+onednn", "+no_onednn")),
        ("pytorch", "cuda", {"step": "plain+autotuned", "deterministic": True}, ("+autotuned", "execution.deterministic: true")),
        ("pytorch", "cuda", {"step": "fast+cuda_graph", "input": "per_image"}, ("+cuda_graph", "execution.input: per_image")),
    ],
)
def test_switches_that_exclude_each_other_are_refused(framework, device, asked, both):
    line = told(framework, device, **asked)
    assert all(part in line for part in both) and "leave one of them out" in line and "\n" not in line


def test_a_compiled_step_with_wrong_gradients_is_refused():
    line = told("pytorch", "cpu", step="plain+compiled")
    assert line.startswith("execution.step: +compiled needs +channels_last on a CPU (") and line.endswith(
        "say plain+compiled+channels_last"
    )
    for step in ("plain+compiled+channels_last", "plain+channels_last+compiled", "fast+compiled"):
        assert told("pytorch", "cpu", step=step) == ""
    # A GPU has another compiler, which `make gpu-check` tests.
    assert told("pytorch", "cuda", step="plain+compiled") == ""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_goes_together_is_taken(framework, device):
    for step in ("fast", "plain"):
        for asked in ({"deterministic": True}, {"input": "per_image", "workers": 2, "resize": "image"}, {"precision": "bf16"}):
            assert told(framework, device, step=step, **asked) == ""
    for name, switch in backends.load(framework).switches.items():
        if device in switch.devices:
            needed = "".join(f"+{other}" for other in switch.needs.get(device, ()))
            assert told(framework, device, step=f"fast+{name}") == told(framework, device, step=f"plain+{name}{needed}") == ""


def test_fast_leaves_out_what_the_rest_excludes_and_says_so():
    known = {
        "graph": Switch("", fast={"cuda": ("fp32",)}, excludes={"deterministic": "a reason", "eager": "another"}),
        "eager": Switch(""),
        "layout": Switch("", fast={"cuda": ("bf16",)}, expected=("cpu",)),
    }

    def on(device="cuda", **asked) -> list[str]:
        return [name for name, there in Execution(**asked).switches(known, device).items() if there]

    assert on() == ["graph"] and on(precision="bf16") == ["layout"] and on("cpu") == ["layout"] and on(step="plain") == []
    assert on(deterministic=True) == [] and on(step="fast+eager") == ["eager"]
    with pytest.raises(InputError, match=r"\+graph and execution\.deterministic: true exclude each other \(a reason\); leave one"):
        on(step="fast+graph", deterministic=True)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_deterministic_fast_step_has_neither_xla_nor_autotuning(device):
    for framework in FRAMEWORKS:
        on = Execution(deterministic=True).switches(backends.load(framework).switches, device)
        assert not on.get("xla") and not on.get("autotuned")
    on = Execution(step="fast+eager").switches(backends.load("tensorflow").switches, device)
    assert on["eager"] and not on["asynchronous"] and not on["xla"]


MISTAKES = [
    ({"execution.precision": "tf32", "device": "cpu"}, "execution.precision: tf32 is a GPU's number format, and device is cpu; say"),
    ({"execution.workers": 2}, "execution.workers: 2 workers have nothing to do with input: resident; say workers: 0, or input: per_image"),
    ({"execution.resize": "image"}, "execution.resize: image does not go with execution.input: resident"),
    ({"execution.input": "per_image", "recipe.flips": True}, "recipe.flips, recipe.crop_padding: images are mirrored and cropped with"),
    ({"execution.input": "per_image", "recipe.crop_padding": 4}, "say input: resident, or flips: false and crop_padding: 0"),
    ({"recipe.warm_up_epochs": 20}, "recipe.warm_up_epochs: 20 is more than the 15 epochs of recipe.epochs; lower it"),
]


@pytest.mark.parametrize(("changes", "says"), MISTAKES)
def test_a_configuration_with_both_is_refused_before_any_job(changes, says):
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    allowed = copy.deepcopy(config)
    allowed["execution"] |= {"precision": "tf32", "deterministic": True, "resize": "batch"}
    allowed["recipe"] |= {"flips": True, "crop_padding": 4, "warm_up_epochs": 15, "schedule": "one_cycle"}
    assert configuration.errors(allowed) == []
    for key, value in changes.items():
        *section, last = key.split(".")
        (config[section[0]] if section else config)[last] = value
    (line,) = configuration.errors(config)
    assert line.startswith("config: ") and says in line


@pytest.mark.parametrize(("changes", "says"), MISTAKES)
def test_train_refuses_the_same_before_it_reads_anything(changes, says, tmp_path):
    def option(key: str, value) -> str:
        name = key.rpartition(".")[2].replace("_", "-")
        return f"--{name}" if value is True else f"--{name}={value}"

    options = ["--framework=pytorch", "--variant=alexnet_mod", "--data=none.npz", f"--output={tmp_path}"]
    with pytest.raises(InputError) as raised:
        train.main([*options, *(option(key, value) for key, value in changes.items())])
    assert says in str(raised.value)


def test_the_kinds_of_contradiction_are_told_by_time_steps_too(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "scripts" / "time_steps.py"),
        "--framework=tensorflow",
        "--variant=alexnet_mod",
        "--data=none.npz",
    ]
    done = subprocess.run([*command, "--alone", "--workers=2"], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and done.stderr.startswith("execution.workers: 2 workers have nothing to do with input: resident")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_empty_fast_step_is_measured_all_the_same(framework, device):
    backend = backends.load(framework)
    bare = {name: replace(switch, fast={}, expected=()) for name, switch in backend.switches.items()}
    arms = speed.arms(type("Bare", (backend,), {"switches": bare}), device, resized=False)
    assert [arm.name for arm in arms if arm.kind == "ladder"] == ["notebook", "workers", "resident", "fast"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_experiment_on_speed_tries_on_a_gpu_what_the_fast_step_there_leaves_out(framework):
    backend = backends.load(framework)
    tried = {name for arm in speed.arms(backend, "cuda", resized=True) for name in arm.execution.step.split("+")}
    left_out = {name for name, on in Execution().switches(backend.switches, "cuda").items() if not on}
    assert left_out <= tried


def rows() -> list[str]:
    """The table of switches in docs/benchmarks.md, built from the code, for the frameworks that are compared."""
    found = []
    for framework in configuration.load()["frameworks"]:
        backend = backends.load(framework)
        for name, switch in backend.switches.items():

            def where(device: str, switch=switch) -> str:
                if device not in switch.devices:
                    return "–"
                if precisions := switch.fast.get(device):
                    return f"measured: {', '.join(precisions)}"
                return "expected" if device in switch.expected else "no"

            others = [*switch.excludes, *(other for other, theirs in backend.switches.items() if name in theirs.excludes)]
            without = [f"without `{other}` on a CPU" for other in switch.needs.get("cpu", ())]
            excluded = ", ".join([*(TEXT.get(other, f"`{other}`") for other in others), *without])
            found.append(f"| {backend.title} | `{name}` | {switch.title} | {where('cpu')} | {where('cuda')} | {excluded} |")
    return found


def test_the_documentation_says_what_is_in_the_fast_step():
    lines = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| Framework | Switch | What it does | `fast` on a CPU | `fast` on a GPU | Not together with |") + 2
    assert lines[start : lines.index("", start)] == rows()


def test_nothing_is_said_to_be_measured_on_a_gpu():
    """Until somebody measures it: then docs/benchmarks.md names the report of `make gpu-check`, and this test goes."""
    for framework in FRAMEWORKS:
        assert not any(switch.fast.get("cuda") for switch in backends.load(framework).switches.values())
