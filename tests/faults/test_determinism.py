"""The same seed on the same machine gives the same bits: twice in a row, and on one core as on two."""

import shutil

import pytest
from small_experiment import SMALL, copy_of_workflow, outcome, run, said

pytestmark = [pytest.mark.fault, pytest.mark.slow]

# Two threads per training: if Snakemake scaled them to its cores, the bits would differ.
CONFIG = SMALL | {"threads": 2, "seeds": [1, 2], "recipe": {"epochs": 2, "batch_size": 16}}


def test_the_same_bits_twice_in_a_row_and_on_one_core(tmp_path):
    folder = copy_of_workflow(tmp_path / "project", CONFIG)
    runs = []
    for cores in ("-c2", "-c2", "-c1"):
        shutil.rmtree(folder / "results", ignore_errors=True)
        done = run(folder, "results/small/runs.csv", cores)
        assert done.returncode == 0, f"{done.stderr[-3000:]}\n{said(folder)}"
        runs.append(outcome(folder))
    assert runs[0] == runs[1] == runs[2]
    # Every file counts: another seed gives other bits.
    predictions = [value for name, value in runs[0].items() if name.endswith("predictions.npz")]
    assert len(predictions) == len(set(predictions)) == 4
