"""Options: a value that makes no sense ends a program before any work, with the option, the value and what is allowed."""

import importlib

import pytest

from alexbench.workflow import fingerprint
from conftest import ROOT

NETWORK = ["--framework=pytorch", "--variant=alexnet_mod", "--data=absent.npz", "--output=out"]
CELL = ["--runs=absent.csv", "--data=absent.npz", "--framework=pytorch", "--variant=alexnet_mod", "--output=out.png"]
GRID = ["--results=out", "--frameworks", "pytorch", "--variants", "alexnet_mod"]
EQUAL = ["--results=out", "--frameworks", "pytorch", "--variant=alexnet_mod", "--as-long-as=alexnet"]
PARITY = [option for option in NETWORK if not option.startswith("--output")] + ["--output=out.npz"]
CASES = [
    *(("train", NETWORK, "--seed", value) for value in ("-1", "1.5", "nan", str(2**32), "")),
    *(("train", NETWORK, name, "0") for name in ("--epochs", "--batch-size", "--threads", "--learning-rate", "--train-limit", "--attempt")),
    *(("train", NETWORK, name, "-1") for name in ("--warm-up-epochs", "--weight-decay", "--crop-padding", "--workers", "--dropout")),
    *(("train", NETWORK, name, value) for name in ("--learning-rate", "--weight-decay", "--warm-up-epochs") for value in ("nan", "inf")),
    *(("train", NETWORK, name, "1") for name in ("--dropout", "--label-smoothing")),
    *(("time_steps", NETWORK, name, "0") for name in ("--batch-size", "--seconds", "--round")),
    *(("measure_parity", PARITY, name, "0") for name in ("--images", "--steps", "--batch-size", "--learning-rate")),
    *(("train", NETWORK, name, "65") for name in ("--crop-padding", "--workers")),
    *(("plot_samples", ["--data=absent.npz", "--output=out.png"], "--columns", value) for value in ("0", "1000000")),
    *(("plot_mistakes", CELL, name, value) for name in ("--columns", "--rows") for value in ("-1", "9" * 400)),
    *(("predict", ["absent.png", "--model=absent.safetensors"], "--top", value) for value in ("0", "-1", "2.5")),
    ("collect", GRID, "--seeds", "-1"),
    ("compare_equal_time", EQUAL, "--seeds", "-1"),
]


@pytest.mark.parametrize(("program", "others", "option", "value"), CASES)
def test_a_senseless_number_is_refused_by_name(program, others, option, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(program).main([*others, f"{option}={value}"])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: " in last and ("out of range" in last or "invalid" in last)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("program", ["collect", "compare_equal_time", "plot_mistakes", "plot_samples", "plot_tradeoff", "write_article"])
def test_a_program_that_takes_numbers_depends_on_no_backend(program):
    """Otherwise every edit of a backend would make tables and figures again."""
    found, waiting = set(), [ROOT / "scripts" / f"{program}.py"]
    while waiting:
        file = waiting.pop()
        found.add(file.relative_to(ROOT / "scripts").as_posix())
        waiting += [path for path in fingerprint._imported(file) if path.relative_to(ROOT / "scripts").as_posix() not in found]
    assert "alexbench/files.py" in found and not [name for name in found if "backends" in name]
