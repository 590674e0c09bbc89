"""Tables saved again by a spreadsheet are read as before; damaged ones are refused in one line, by every program."""

import codecs
import csv
import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import collect
import collect_speed
import compare
import describe_model
import plot_calibration
import plot_classes
import plot_clocks
import plot_intervals
import plot_learning
import plot_mistakes
import plot_speed
import plot_time_to_accuracy
import plot_tradeoff
import record_environment
import write_article
import write_page
from alexbench import tables
from alexbench.analysis import comparisons, results_table, run_files, speed_tables
from alexbench.experiment import datasets
from alexbench.files import InputError
from alexbench.tables import Column
from conftest import IMAGES, write_run
from test_speed import write_round

RUN = Path("runs/pytorch/alexnet_mod/seed1")
GRID = ["--frameworks", "pytorch", "tensorflow", "--variants", "alexnet_mod", "--seeds", "1", "2"]


def edited(text: str, edit: Callable[[list[list[str]]], None], separator: str = ",", **form) -> str:
    """A table's text after `edit` has changed its rows, with the header first."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    edit(rows)
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="\n", **form).writerows(rows)
    return out.getvalue()


def nothing(rows: list[list[str]]) -> None:
    pass


def decimal_commas(rows: list[list[str]]) -> None:
    for row in rows[1:]:
        row[:] = [value.replace(".", ",") if value.replace(".", "", 1).lstrip("-").isdigit() else value for value in row]


def wider(rows: list[list[str]]) -> None:
    """Add two empty columns and an empty row, as in a sheet from which something was deleted."""
    for row in rows:
        row += ["", ""]
    rows.insert(2, [""] * len(rows[0]))


def reordered(rows: list[list[str]]) -> None:
    for row in rows:
        row.reverse()


def upper_flags(rows: list[list[str]]) -> None:
    for row in rows[1:]:
        row[:] = [value.upper() if value in ("True", "False") else value for value in row]


# Files with the same content.
SAME = {
    "semicolons": lambda t: edited(t, nothing, ";").encode(),
    "tabs": lambda t: edited(t, nothing, "\t").encode(),
    "decimal commas": lambda t: edited(t, decimal_commas, ";").encode(),
    "decimal commas, tabs, utf-16": lambda t: edited(t, decimal_commas, "\t").encode("utf-16"),
    "mark": lambda t: codecs.BOM_UTF8 + t.encode(),
    "utf-16": lambda t: t.encode("utf-16"),
    "utf-16 be": lambda t: codecs.BOM_UTF16_BE + t.encode("utf-16-be"),
    "crlf": lambda t: edited(t, nothing).replace("\n", "\r\n").encode(),
    "cr": lambda t: edited(t, nothing).replace("\n", "\r").encode(),
    "no last line end": lambda t: edited(t, nothing).replace("\n", "\r\n").encode()[:-2],
    "separator told": lambda t: b"sep=;\r\n" + edited(t, nothing, ";").encode(),
    "empty columns and rows": lambda t: edited(t, wider, ";").encode() + b"\n\n",
    "other order": lambda t: edited(t, reordered).encode(),
    "upper case": lambda t: edited(t, upper_flags).encode(),
    "quotes": lambda t: edited(t, nothing, quoting=csv.QUOTE_ALL).encode(),
}


def without(name: str, rows: list[list[str]]) -> None:
    place = rows[0].index(name)
    for row in rows:
        del row[place]


def doubled(name: str, rows: list[list[str]]) -> None:
    place = rows[0].index(name)
    for row in rows:
        row.append(row[place])


def with_field(name: str, value: str, rows: list[list[str]]) -> None:
    rows[1][rows[0].index(name)] = value


def twice(rows: list[list[str]]) -> None:
    rows.append(rows[-1])


# What becomes of a table whose column `c` holds numbers and none of whose fields may be empty there, and the error that follows.
DAMAGED = {
    "empty": (lambda t, c: b"", r"is not a whole \w+ \(empty\)"),
    "blank": (lambda t, c: b"\n ;;\n", r"is not a whole \w+ \(empty\)"),
    "cut": (lambda t, c: t.encode()[: -len(t.splitlines()[-1]) // 2 - 1], r"fields in row \d+ and \d+ in its header|unexpected end"),
    "cut in the last field": (lambda t, c: edited(t, nothing).encode()[:-1], "does not end with a line end"),
    "no column": (lambda t, c: edited(t, partial(without, c)).encode(), "lacks {c}"),
    "no header": (lambda t, c: t.partition("\n")[2].encode(), "lacks |more than once"),
    "column twice": (lambda t, c: edited(t, partial(doubled, c)).encode(), "has the column {c} more than once"),
    "words": (lambda t, c: edited(t, partial(with_field, c, "about 5")).encode(), "has 'about 5' as {c} in row 2|{c} of epoch 1 is about"),
    "percent": (lambda t, c: edited(t, partial(with_field, c, "63 %")).encode(), "has '63 %' as {c} in row 2|{c} of epoch 1 is 63"),
    "thousands": (lambda t, c: edited(t, partial(with_field, c, "1,234,567")).encode(), "has '1,234,567' as {c}|{c} of epoch 1 is 1,"),
    "gap": (lambda t, c: edited(t, partial(with_field, c, "")).encode(), "has 'nothing' as {c}|{c} of epoch 1 is nan"),
    "zeros": (lambda t, c: bytes(len(t)), r"is not a whole \w+ \(no text\)"),
    "latin-1": (lambda t, c: "Á".encode("latin-1") + t.encode(), r"is not a whole \w+ \(byte 0 is no UTF-8\); save it as UTF-8"),
    "odd utf-16": (lambda t, c: t.encode("utf-16")[:-1], r"is not a whole \w+ \(byte \d+ is no UTF-16\)"),
    "html": (lambda t, c: b"<!doctype html><html></html>\n", "lacks "),
    "row twice": (lambda t, c: edited(t, twice).encode(), "more than once|has the epochs"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A results folder with every table for two frameworks, and the data of its runs."""
    root = tmp_path_factory.mktemp("made")
    for framework, title in (("pytorch", "PyTorch"), ("tensorflow", "TensorFlow")):
        of_framework = {"framework": framework, "framework_title": title, "train_limit": None, "test_limit": 100}
        of_framework["recipe"] = {"epochs": 2, "initialisation": framework, "adam_epsilon": framework}
        for seed in (1, 2):
            write_run(root / "runs" / framework / "alexnet_mod" / f"seed{seed}", seed=seed, accuracy=0.5 + 0.1 * seed, **of_framework)
        for number in (1, 2):
            arms = {"notebook": ("ladder", 0.01), "resident": ("ladder", 0.004), "fast": ("ladder", 0.002 * number)}
            write_round(root / f"speed/{framework}/round{number}.csv", framework, number, arms)
    datasets.save(IMAGES, root / "data.npz")
    assert collect.main(["--results", str(root), *GRID]) == 0
    assert compare.main(["--runs", str(root / "runs.csv"), "--data", str(root / "data.npz"), "--output", str(root)]) == 0
    assert collect_speed.main([*rounds_of(root), "--output", str(root)]) == 0
    shutil.copy(collect.ORIGINAL, root / "original.csv")
    return root


READERS = {
    "original.csv": results_table.read_original,
    "runs.csv": run_files.read_runs,
    "table.csv": results_table.read,
    "comparisons.csv": comparisons.read,
    "speed.csv": speed_tables.read_arms,
    "speed_ratios.csv": speed_tables.read_ratios,
    "speed/pytorch/round1.csv": lambda path: speed_tables.read([path]),
    str(RUN / "history.csv"): lambda path: run_files.read_history(path.parent),
}


@pytest.mark.parametrize("saved", SAME)
@pytest.mark.parametrize("name", READERS)
def test_what_a_spreadsheet_saves_is_read_as_it_was(made, tmp_path, name, saved):
    before = READERS[name](made / name)
    shutil.copy(made / RUN / "metrics.json", tmp_path)
    path = tmp_path / Path(name).name
    with (made / name).open(newline="", encoding="utf-8") as file:
        path.write_bytes(SAME[saved](file.read()))
    pd.testing.assert_frame_equal(READERS[name](path), before, check_like=saved == "other order", check_dtype=saved != "upper case")


def options(root: Path, *more: str, runs: bool = True) -> list[str]:
    return [*(["--runs", str(root / "runs.csv")] if runs else []), *more, "--output", str(root / "out.png")]


def cell(root: Path) -> list[str]:
    return options(root, "--data", str(root / "data.npz"), "--framework", "pytorch", "--variant", "alexnet_mod")


def card(root: Path) -> list[str]:
    return [f"--metrics={root / RUN / 'metrics.json'}", f"--model={root / 'data.npz'}", f"--table={root / 'table.csv'}"]


def timed(root: Path) -> list[str]:
    return options(root, f"--arms={root / 'speed.csv'}", f"--ratios={root / 'speed_ratios.csv'}", runs=False)


def rounds_of(root: Path) -> list[str]:
    return [str(path) for path in sorted(root.glob("speed/*/*.csv"))]


def page(root: Path) -> list[str]:
    return ["--results", str(root), "--data", str(root / "data.npz"), "--output", str(root / "out.html")]


# For each program: the table to damage, a column of numbers in it, and the options.
PROGRAMS = {
    "collect": (collect, "original.csv", "parameters", lambda r: ["--results", str(r), *GRID, "--original", str(r / "original.csv")]),
    "compare": (compare, "runs.csv", "seed", lambda r: ["--runs", str(r / "runs.csv"), "--data", str(r / "data.npz"), "--output", str(r)]),
    "plot_tradeoff": (plot_tradeoff, "runs.csv", "parameters", options),
    "plot_tradeoff, original": (plot_tradeoff, "original.csv", "parameters", lambda r: options(r, "--original", str(r / "original.csv"))),
    "plot_intervals": (plot_intervals, "runs.csv", "test_images", lambda r: options(r, "--table", str(r / "table.csv"))),
    "plot_intervals, table": (plot_intervals, "table.csv", "n", lambda r: options(r, "--table", str(r / "table.csv"))),
    "plot_calibration": (plot_calibration, "runs.csv", "epochs", options),
    "plot_clocks": (plot_clocks, "runs.csv", "compile_seconds", options),
    "plot_learning": (plot_learning, "runs.csv", "train_images", options),
    "plot_learning, history": (plot_learning, RUN / "history.csv", "test_loss", options),
    "plot_time_to_accuracy": (plot_time_to_accuracy, "runs.csv", "group", options),
    "plot_time_to_accuracy, history": (plot_time_to_accuracy, RUN / "history.csv", "test_accuracy", options),
    "plot_classes": (plot_classes, "runs.csv", "threads", cell),
    "plot_mistakes": (plot_mistakes, "runs.csv", "test_images", cell),
    "record_environment": (record_environment, "runs.csv", "threads", options),
    "describe_model": (describe_model, "table.csv", "n", lambda r: options(r, *card(r), runs=False)),
    "write_article, runs": (write_article, "runs.csv", "setup_seconds", page),
    "write_article, table": (write_article, "table.csv", "n", page),
    "write_article, comparisons": (write_article, "comparisons.csv", "a_n", page),
    "write_article, ratios": (write_article, "speed_ratios.csv", "ratio", page),
    "collect_speed": (collect_speed, "speed/pytorch/round1.csv", "round", lambda r: [*rounds_of(r), "--output", str(r)]),
    "plot_speed": (plot_speed, "speed.csv", "epoch_seconds", lambda r: ["roofline", *timed(r)]),
    "plot_speed, ratios": (plot_speed, "speed_ratios.csv", "ratio", lambda r: ["ratio", *timed(r)]),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_damaged_table_ends_every_program_in_a_line(made, program, damage):
    module, name, column, arguments = PROGRAMS[program]
    change, says = DAMAGED[damage]
    path, before = made / name, (made / name).read_bytes()
    try:
        path.write_bytes(change(before.decode().replace("\r\n", "\n"), column))
        with pytest.raises(InputError, match=says.replace("{c}", column)) as raised:
            module.main(arguments(made))
    finally:
        path.write_bytes(before)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_page_of_a_table_without_rows_shows_its_header(tmp_path):
    (tmp_path / "t.csv").write_text("one,two\n", encoding="utf-8")
    assert write_page.main([str(tmp_path / "t.csv"), "--title", "T", "--output", str(tmp_path / "t.html")]) == 0
    assert ">two<" in (tmp_path / "t.html").read_text(encoding="utf-8")


def test_marks_of_two_kinds_decide_nothing(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n1,5;2.5\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"t\.csv has both 1,5 and 2\.5: which mark is the decimal one\?"):
        tables.read(tmp_path / "t.csv", {"a": Column(float), "b": Column(float)}, "mend it")


def without_tensorflow(rows: list[list[str]]) -> None:
    rows[:] = [row for row in rows if "tensorflow" not in row]


@pytest.mark.parametrize(
    ("module", "name", "arguments", "says"),
    [
        (write_article, "runs.csv", page, r"runs\.csv and .*table\.csv are not of the same runs \(tensorflow alexnet_mod\)"),
        (write_article, "table.csv", page, r"runs\.csv and .*table\.csv are not of the same runs \(tensorflow alexnet_mod\)"),
        (plot_speed, "speed.csv", lambda r: ["ratio", *timed(r)], r"speed_ratios\.csv has tensorflow, which .*speed\.csv lacks"),
    ],
)
def test_tables_of_different_runs_do_not_go_together(made, module, name, arguments, says):
    before = (made / name).read_bytes()
    try:
        (made / name).write_text(edited(before.decode(), without_tensorflow), encoding="utf-8")
        with pytest.raises(InputError, match=says):
            module.main(arguments(made))
    finally:
        (made / name).write_bytes(before)


def test_a_round_that_is_given_twice_is_named(made):
    paths = rounds_of(made)
    with pytest.raises(InputError, match="round 1 has pytorch alexnet_mod notebook more than once"):
        collect_speed.main([*paths, paths[0], "--output", str(made)])


def test_measured_arms_need_their_measures(made, tmp_path):
    """An arm that failed has a reason instead."""
    failed = tmp_path / "failed.csv"
    shutil.copy(made / "speed/pytorch/round1.csv", failed)
    text = failed.read_text(encoding="utf-8")
    failed.write_text(edited(text, partial(with_field, "step_seconds", "")), encoding="utf-8")
    with pytest.raises(InputError, match=r"failed\.csv lacks step_seconds of arms that were measured"):
        speed_tables.read([failed])
    text = edited(text, partial(with_field, "error", "no compiler"))
    failed.write_text(edited(text, partial(with_field, "step_seconds", "")), encoding="utf-8")
    assert speed_tables.read([failed]).error.notna().tolist() == [True, False, False]


def test_an_original_without_a_row_stands_beside_nothing(made, tmp_path):
    header = collect.ORIGINAL.read_text(encoding="utf-8").partition("\n")[0]
    (tmp_path / "original.csv").write_text(header + "\n", encoding="utf-8")
    shutil.copytree(made / "runs", tmp_path / "runs")
    assert collect.main(["--results", str(tmp_path), *GRID, "--original", str(tmp_path / "original.csv")]) == 0
    assert "Original" not in (tmp_path / "table.md").read_text(encoding="utf-8").partition("\n")[0]


def test_a_data_set_of_ones_own_has_a_card(made):
    metrics = json.loads((made / RUN / "metrics.json").read_text(encoding="utf-8")) | {"dataset": "mine"}
    assert "Data: mine. 50,000 training images" in describe_model.card(metrics, results_table.read(made / "table.csv"), made / "data.npz")


@pytest.mark.parametrize(("name", "content"), [("t.csv", b""), ("t.csv", b"a,b\n1\n"), ("t.csv", b"a\n\xff\n"), ("t.md", b"\xff")])
def test_a_page_of_a_damaged_file_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{tmp_path / name} "):
        write_page.main([str(tmp_path / name), "--title", "T", "--output", str(tmp_path / "t.html")])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read"),
        (b'{"framework": "pytorch"', "cannot be read"),
        (b"[1]", "cannot be read"),
        (b"\xff\xfe{", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        ({"recipe": None}, "recipe is None"),
        ({"variant": "mine"}, "variant 'mine' is not declared"),
        ({"accuracy": "high"}, "accuracy is 'high'"),
    ],
)
def test_a_card_of_damaged_metrics_is_refused_in_a_line(made, tmp_path, content, says):
    path = tmp_path / "damaged.json"
    whole = json.loads((made / RUN / "metrics.json").read_text(encoding="utf-8"))
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(whole | content).encode())
    with pytest.raises(InputError, match=f"{path}.*{says}"):
        describe_model.main([f"--metrics={path}", *card(made)[1:], f"--output={tmp_path / 'card.md'}"])


@pytest.mark.parametrize("name", ["mine.md", "parity/alexnet.md", "equal_time/table.md"])
def test_an_article_names_the_text_that_is_not_utf_8_and_the_figure_that_is_missing(made, tmp_path, name):
    root = tmp_path / "results"
    shutil.copytree(made, root)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes("# Überschrift".encode("latin-1"))
    with pytest.raises(InputError, match=f"page: {root / name} is not UTF-8 .byte 2.; save it as UTF-8"):
        write_article.main(page(root))
    (root / name).unlink()
    (root / "figures/clocks.png").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"page: \S+/figures/\w+\.png does not exist; the workflow makes it"):
        write_article.main(page(root))
