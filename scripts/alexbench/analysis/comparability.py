"""Decide which runs may be averaged and which times compared: only those of one experiment with the same hardware, versions and code.

Columns are those of `run_files.runs_table`; a name that ends in a dot stands for every column that starts with it.
"""

from collections.abc import Iterable

import pandas as pd

from alexbench.files import InputError

# What a run computes. Runs of a cell that differ here belong to two experiments.
EXPERIMENT = ("recipe.", "start", "weights_sha256", "fresh_layers", "network", "parameters", "settings.precision", "validation_images")
EXPERIMENT += ("validation_seed",)
# What a run was computed on, and how many runs shared the GPU. Times are compared only where all of this is the same.
HARDWARE = ("device", "device_name", "cpu_name", "threads", "runs_per_gpu")
# The software of a run. `code` is a hash of the code that trains a run; the commit is left out because most commits do not change that.
SOFTWARE = ("settings.", "versions.", "gpu.driver", "code")
CELL = ["framework", "variant"]


def differing(runs: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """The columns matching `names` in which the runs differ."""
    columns = [column for name in names for column in runs.columns if column == name or (name[-1] == "." and column.startswith(name))]
    return [column for column in dict.fromkeys(columns) if runs[column].nunique(dropna=False) > 1]


def check(runs: pd.DataFrame) -> None:
    """Raise InputError, with what differs and where, if runs used different data or those of a cell belong to different experiments."""
    for cell, names in [(runs, ("data_sha256",)), *((cell, EXPERIMENT) for _, cell in runs.groupby(CELL, sort=False))]:
        for column in differing(cell, names):
            found = cell.drop_duplicates(column)
            values = "".join(f"\n  {run[column]} in {run.folder}" for _, run in found.iterrows())
            raise InputError(
                f"results: runs that belong together differ in {column}:{values}\n"
                "They are never averaged or compared; delete the folders of those that are not wanted, and train those runs again"
            )


def circumstances(cell: pd.DataFrame) -> list[str]:
    """The columns of hardware, software and code in which the runs of a cell differ."""
    columns = differing(cell, (*HARDWARE, *SOFTWARE))
    # On a CPU, `device_name` and `cpu_name` are both the processor's name.
    same = "device_name" in columns and (cell.device == "cpu").all()
    return [column for column in columns if not (same and column == "cpu_name")]


def grouped(runs: pd.DataFrame) -> pd.DataFrame:
    """Group the runs of each cell by hardware, software and code.

    Returns `runs` with two more columns: `group`, the group's number within the cell, from 1; and `made_with`, what distinguishes the group
    from others of the cell ("" if it is the only one).
    """
    parts = []
    for _, cell in runs.groupby(CELL, sort=False):
        columns = circumstances(cell)
        made_with = [", ".join(f"{name} {run[name]}" for name in columns) for _, run in cell.iterrows()]
        parts.append(cell.assign(group=pd.factorize(pd.Series(made_with))[0] + 1, made_with=made_with))
    return pd.concat(parts)


def mixed(runs: pd.DataFrame) -> list[str]:
    """The columns in which runs of a cell differ, for figures that show such runs together."""
    return list(dict.fromkeys(column for _, cell in runs.groupby(CELL, sort=False) for column in circumstances(cell)))
