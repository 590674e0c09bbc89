"""Tables that were saved again by a spreadsheet, or damaged: read as they were, or refused in one line."""

import codecs

import pandas as pd
import pytest

import collect
import compare
import plot_calibration
import plot_clocks
import plot_intervals
import plot_learning
import plot_time_to_accuracy
import plot_tradeoff
import write_page
from alexbench import datasets, results
from alexbench.files import InputError

SAME = {
    "semicolons": lambda t: t.replace(",", ";").encode(),
    "mark": lambda t: codecs.BOM_UTF8 + t.encode(),
    "utf16": lambda t: t.encode("utf-16"),
    "crlf": lambda t: t.replace("\n", "\r\n").encode(),
    "tabs": lambda t: t.replace(",", "\t").encode(),
    "decimal commas": lambda t: t.replace(",", ";").replace(".", ",").encode(),
}
DAMAGED = {
    "empty": lambda t: b"",
    "blank": lambda t: b"\n",
    "cut": lambda t: t.encode()[: -len(t.splitlines()[-1]) // 2],
    "no column": lambda t: t.replace("framework", "frame").encode(),
    "words": lambda t: t.replace("4539786", "about 5 M").encode(),
    "zeros": lambda t: bytes(len(t)),
    "latin1": lambda t: t.replace("AlexNet", "Àlex").replace("alexnet", "àlex").encode("latin-1"),
    "html": lambda t: b"<!doctype html><html></html>",
}
PLOTS = [plot_calibration, plot_clocks, plot_learning, plot_time_to_accuracy, plot_tradeoff]


@pytest.fixture
def collected(grid_folder):
    grid = ["--frameworks", "pytorch", "tensorflow", "--variants", "alexnet_mod", "alexnet", "--seeds", "1", "2"]
    assert collect.main(["--results", str(grid_folder), *grid]) == 0
    return grid_folder


@pytest.mark.parametrize("saved", SAME)
def test_what_a_spreadsheet_saves_is_read_as_it_was(tmp_path, saved):
    before = results.read_study(collect.STUDY)
    path = tmp_path / "study.csv"
    path.write_bytes(SAME[saved](collect.STUDY.read_text(encoding="utf-8")))
    pd.testing.assert_frame_equal(results.read_study(path), before)


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_table_ends_every_program_in_a_line(collected, damage):
    whole = collected / "whole.csv"
    whole.write_bytes((collected / "runs.csv").read_bytes())
    runs, output = collected / "runs.csv", str(collected / "out.png")
    runs.write_bytes(DAMAGED[damage](runs.read_text(encoding="utf-8")))
    study = collected / "study.csv"
    study.write_bytes(DAMAGED[damage](collect.STUDY.read_text(encoding="utf-8")))
    datasets.save(datasets.digits().limited(10, 10), collected / "d.npz")
    grid = ["--frameworks", "pytorch", "--variants", "alexnet_mod", "--seeds", "1"]
    calls = [(plot.main, ["--runs", str(runs), "--output", output], runs) for plot in PLOTS]
    table = collected / "table.csv"
    table.write_bytes(DAMAGED[damage](table.read_text(encoding="utf-8")))
    calls += [(plot_intervals.main, ["--runs", str(whole), "--table", str(table), "--output", output], table)]
    calls += [(compare.main, ["--runs", str(runs), "--data", str(collected / "d.npz"), "--output", str(collected)], runs)]
    calls += [(collect.main, ["--results", str(collected), *grid, "--study", str(study)], study)]
    for main, arguments, named in calls:
        with pytest.raises(InputError, match=f"table: {named}") as raised:
            main(arguments)
        assert "\n" not in str(raised.value)


def test_a_page_of_a_table_without_rows_shows_its_header(tmp_path):
    (tmp_path / "t.csv").write_text("one,two\n", encoding="utf-8")
    assert write_page.main([str(tmp_path / "t.csv"), "--title", "T", "--output", str(tmp_path / "t.html")]) == 0
    assert ">two<" in (tmp_path / "t.html").read_text(encoding="utf-8")
