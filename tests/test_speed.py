"""The experiment on speed: its arms, what is measured for each, and what is said about the numbers."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

import collect_speed
import plot_speed
import time_steps
from alexbench import backends
from alexbench.analysis import speed_tables
from alexbench.backends import FRAMEWORKS
from alexbench.experiment import layers, variants
from alexbench.experiment.execution import Execution
from alexbench.files import InputError
from alexbench.training import speed


def write_round(path, framework: str, number: int, arms: dict[str, tuple[str, float]], variant: str = "alexnet_mod", **changes) -> None:
    """Write a round as time_steps.py does: for each arm its kind and its seconds per image."""
    rows = []
    for name, (kind, seconds) in arms.items():
        row = {"round": number, "framework": framework, "variant": variant, "arm": name, "kind": kind, "change": f"change {name}"}
        row |= {
            "error": "",
            "framework_title": framework.title(),
            "variant_title": "AlexNet",
            "device": "cpu",
            "device_name": "a processor",
        }
        row |= {"hostname": "here", "threads": 2, "dataset": "cifar10", "images": 1000, "data_bytes": 10**6, "batch_size": 64}
        row |= {"together_seconds": seconds, "loader_seconds": seconds / 10, "step_seconds": seconds, "first_step_seconds": 1.0, "steps": 9}
        row |= {"matmul_flops": 2e11, "copy_bytes": 2e10, "peak_memory_bytes": 10**9, "import_seconds": 1.0, "start_seconds": 3.0}
        rows.append(row | {"framework_memory_bytes": 10**8, "settings": "{}", "versions": "{}"} | changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


@pytest.fixture
def rounds(tmp_path):
    """Three rounds of two frameworks: PyTorch's input is slow, everything else alike."""
    paths = []
    for number in (1, 2, 3):
        wobble = 1 + 0.01 * number
        seconds = {"pytorch": (0.010, 0.004, 0.002), "tensorflow": (0.005, 0.004, 0.002)}
        for framework in seconds:
            # Slightly different from round to round: constant values have no interval.
            wobble += 0.0001 * (framework == "tensorflow" and number == 2)
            arms = dict(zip(("notebook", "resident", "fast"), (("ladder", s * wobble) for s in seconds[framework]), strict=True))
            paths.append(tmp_path / f"round{number}/{framework}.csv")
            write_round(paths[-1], framework, number, arms | {"bf16": ("precision", 0.001)})
    return paths


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_ladder_leads_from_the_tutorials_way_to_the_fast_one_a_change_a_rung(framework, device):
    backend = backends.load(framework)
    arms = speed.arms(backend, device, resized=True)
    assert len({arm.name for arm in arms}) == len(arms)
    ladder = [arm.execution for arm in arms if arm.kind == "ladder"]
    assert (ladder[0].input, ladder[0].step, ladder[0].workers) == ("per_image", "plain", 0)
    assert ladder[-1] == Execution()
    for below, above in itertools.pairwise(ladder):
        before, after = ({**vars(e), **e.switches(backend.switches, device)} for e in (below, above))
        changed = {key for key in before if before[key] != after[key]} - {"step"}
        # The workers belong to the per_image input, and so does where it resizes.
        assert len(changed) == 1 or changed == {"input", "workers"} or changed == {"input", "workers", "resize"}
    crossed = {(e.input, e.step.partition("+")[0]) for e in (arm.execution for arm in arms) if e.precision == "fp32"}
    assert crossed >= {(i, s) for i in ("per_image", "resident") for s in ("plain", "fast")}
    assert {arm.execution.precision for arm in arms} == {"cpu": {"fp32", "bf16"}, "cuda": {"fp32", "tf32", "bf16"}}[device]


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_arms_are_measured_in_processes_of_their_own(framework, digits_file, tmp_path, capfd):
    output = tmp_path / "round.csv"
    options = ["--variant=alexnet_mod", f"--data={digits_file}", "--device=cpu", "--threads=1", "--batch-size=4", "--seconds=0.05"]
    assert time_steps.main([f"--framework={framework}", *options, "--arms", "workers", "fast", "--output", str(output)]) == 0
    rows = pd.read_csv(output)
    assert rows.arm.tolist() == ["workers", "fast"] and rows.error.isna().all()
    for column in ("together_seconds", "loader_seconds", "step_seconds", "matmul_flops", "copy_bytes", "start_seconds"):
        assert (rows[column] > 0).all(), column
    assert (rows.steps >= speed.LEAST_STEPS).all() and (rows.start_seconds > rows.import_seconds).all()
    settings = [json.loads(text) for text in rows.settings]
    assert [s["input"] for s in settings] == ["per_image", "resident"] and [s["workers"] for s in settings] == [2, 0]
    # A step takes longer than loading its images.
    fast = rows.iloc[1]
    assert fast.loader_seconds < fast.step_seconds
    assert "fast: " in capfd.readouterr().err
    with pytest.raises(InputError, match="--arms: unknown slow; choose from notebook, workers, resident"):
        time_steps.main([f"--framework={framework}", *options, "--arms", "slow", "--output", str(output)])


def test_the_ratio_of_medians_and_its_interval():
    a, b = np.array([2.0, 2.2, 1.8, 2.1, 1.9]), np.array([1.0, 1.1, 0.9, 1.05, 0.95])
    middle, low, high = speed_tables.ratio(a, b)
    assert middle == 2.0 and np.isnan([low, high]).all(), "round by round the ratio is always 2"
    a[0] = 2.02
    middle, low, high = speed_tables.ratio(a, b)
    wide = speed_tables.ratio(a, b[::-1])
    assert wide.low < low < middle < high < wide.high, "round by round: what disturbs both cancels"
    assert np.isnan(speed_tables.ratio(a[:1], b[:1])[1])


def test_the_table_has_medians_savings_and_the_share_of_the_floor(rounds):
    table = speed_tables.table(speed_tables.read(rounds)).set_index(["framework", "arm"])
    ours = table.loc["pytorch"]
    assert ours.rounds.tolist() == [3, 3, 3, 3]
    assert ours.epoch_seconds["notebook"] == pytest.approx(10.2) and ours.saved_seconds["resident"] == pytest.approx(6.12)
    assert np.isnan(ours.saved_seconds["notebook"]) and np.isnan(ours.saved_seconds["bf16"])
    assert ours.factor["fast"] == pytest.approx(5)
    assert ours.together_to_larger["fast"] == pytest.approx(1) and ours.together_to_sum["fast"] == pytest.approx(1 / 1.1)
    floor = layers.training_operations(variants.get("alexnet_mod")) / 2e11
    assert ours.floor_seconds["fast"] == pytest.approx(floor) and ours.share_of_floor["fast"] == pytest.approx(floor / 0.00204)


def test_the_text_says_what_the_figures_say(rounds):
    rows = speed_tables.read(rounds)
    compared = speed_tables.ratios(rows)
    text = speed_tables.explanation(compared, "TensorFlow", "PyTorch")
    assert text.startswith("Following its tutorials, TensorFlow takes 0.50 (0.50 to 0.50) times as long as PyTorch to train (rounds: 3): ")
    assert "That ratio, 0.50, is 0.50 (how the images are prepared) x 1.00 (how a step is carried out) x 1.00" in text
    assert "the largest factor is how the images are prepared, which costs PyTorch 2.00 times as much" in text
    report = speed_tables.report(speed_tables.table(rows), compared)
    assert "## AlexNet, cpu (a processor, 2 threads)" in report and "| Pytorch" in report


def test_two_devices_are_set_beside_each_other(rounds, tmp_path):
    for number in (1, 2):
        path = tmp_path / f"cuda/round{number}.csv"
        arms = {"notebook": ("ladder", 0.001), "resident": ("ladder", 0.0005), "fast": ("ladder", 0.0001)}
        write_round(path, "pytorch", number, arms, device="cuda", device_name="a GPU")
        rounds.append(path)
    rows = speed_tables.read(rounds)
    rows = rows[rows.framework == "pytorch"]
    report = speed_tables.report(speed_tables.table(rows), speed_tables.ratios(rows))
    assert "- Pytorch, AlexNet: an epoch takes 0.1 s on a GPU and 2.0 s on 2 threads of a processor, 20 times as long" in report


def test_rounds_of_two_machines_are_not_compared(rounds):
    write_round(rounds[0], "pytorch", 1, {"notebook": ("ladder", 0.01)}, hostname="there")
    says = rf"speed: rounds differ in hostname \(there in {rounds[0]}, here in {rounds[1]}\) and do not compare"
    with pytest.raises(InputError, match=says):
        speed_tables.read(rounds)


def test_tables_and_figures_come_out_of_the_rounds(rounds, tmp_path):
    assert collect_speed.main([*map(str, rounds), "--output", str(tmp_path)]) == 0
    arms = ["--arms", str(tmp_path / "speed.csv")]
    for figure, more in (
        ("waterfall", ["--framework", "pytorch", "--variant", "alexnet_mod"]),
        ("ratio", ["--ratios", str(tmp_path / "speed_ratios.csv")]),
        ("roofline", []),
    ):
        assert plot_speed.main([figure, *arms, *more, "--output", str(tmp_path / f"{figure}.png")]) == 0
        assert (tmp_path / f"{figure}.png").stat().st_size > 10_000 and (tmp_path / f"{figure}.svg").exists()
    with pytest.raises(InputError, match="has no arm of any framework on cuda"):
        plot_speed.main(["roofline", *arms, "--device", "cuda", "--output", str(tmp_path / "no.png")])


def test_three_frameworks_are_set_against_the_first_and_judged_together(rounds, tmp_path):
    alone = speed_tables.ratios(speed_tables.read(rounds))
    for number, seconds in ((1, 0.0030), (2, 0.0032), (3, 0.0031)):
        rounds.append(tmp_path / f"round{number}/jax.csv")
        arms = {"notebook": ("ladder", 4 * seconds), "resident": ("ladder", 2 * seconds), "fast": ("ladder", seconds)}
        write_round(rounds[-1], "jax", number, arms)
    assert collect_speed.main([*map(str, rounds), "--output", str(tmp_path)]) == 0
    table = speed_tables.read_ratios(tmp_path / "speed_ratios.csv")
    assert set(zip(table.framework, table.to, strict=True)) == {("tensorflow", "pytorch"), ("jax", "pytorch")}
    same = table[table.framework == "tensorflow"].set_index("arm").loc["fast"]
    assert same.high - same.low > 1.3 * (alone.set_index("arm").high - alone.set_index("arm").low)["fast"]
    report = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert "widened (Bonferroni), because 2 frameworks are judged together" in report
    assert report.count("Following its tutorials, ") == 2
    figure = tmp_path / "ratio.png"
    assert (
        plot_speed.main(["ratio", "--arms", f"{tmp_path}/speed.csv", "--ratios", f"{tmp_path}/speed_ratios.csv", "--output", str(figure)])
        == 0
    )
    assert "Jax" in figure.with_suffix(".svg").read_text(encoding="utf-8")


def test_operations_and_bytes_of_training_are_those_of_the_declaration():
    small = layers.Variant("small", "", "", 8, (layers.Conv(4, kernel=3), layers.Flatten(), layers.Dense(10, activation=None)))
    conv, dense = 6 * 6 * 4 * 27, 6 * 6 * 4 * 10
    assert layers.training_operations(small) == 2 * (2 * conv + 3 * dense)
    outputs, parameters = 6 * 6 * 4 + 10, 28 * 4 + 145 * 10
    assert layers.training_bytes(small, 2) == 4 * (4 * 2 * outputs + 10 * parameters)
    assert layers.memory_bytes(small, 2) == 4 * (4 * parameters + 2 * (8 * 8 * 3 + 2 * 6 * 6 * 4 + 10))


@pytest.mark.parametrize("figure", ["ratio", "roofline", "waterfall"])
def test_one_framework_alone_is_timed_and_drawn(rounds, tmp_path, figure):
    assert collect_speed.main([*map(str, rounds[::2]), "--output", str(tmp_path)]) == 0
    assert pd.read_csv(tmp_path / "speed_ratios.csv").empty
    options = ["--arms", str(tmp_path / "speed.csv"), "--ratios", str(tmp_path / "speed_ratios.csv"), "--output", str(tmp_path / "f.png")]
    assert plot_speed.main([figure, *options, "--framework", "pytorch", "--variant", "alexnet_mod"]) == 0
    assert (tmp_path / "f.png").stat().st_size > 0


def test_arms_that_all_failed_are_named_and_a_part_of_them_leaves_a_text(tmp_path):
    path = tmp_path / "round1/pytorch.csv"
    write_round(path, "pytorch", 1, {"notebook": ("ladder", 0.01)}, error="out of memory")
    with pytest.raises(InputError, match=r"no arm was measured \(out of memory\)"):
        collect_speed.main([str(path), "--output", str(tmp_path)])
    paths = []
    for framework in ("pytorch", "tensorflow"):
        paths.append(tmp_path / f"round2/{framework}.csv")
        write_round(paths[-1], framework, 1, {"resident": ("ladder", 0.01)})
    assert collect_speed.main([*map(str, paths), "--output", str(tmp_path)]) == 0
    text = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert "were not both measured in notebook, fast" in text and "nan" not in text


def test_options_that_would_not_be_obeyed_are_refused(digits_file, tmp_path):
    options = ["--framework=pytorch", "--variant=alexnet_mod", f"--data={digits_file}", "--device=cpu"]
    with pytest.raises(InputError, match=r"^--output measures every arm, .*: leave out --workers 2, --step plain, or say --alone"):
        time_steps.main([*options, f"--output={tmp_path / 'a.csv'}", "--step=plain", "--workers=2"])
    with pytest.raises(InputError, match=r"^--alone measures the one arm .*: leave out --arms fast"):
        time_steps.main([*options, "--alone", "--arms", "fast"])
