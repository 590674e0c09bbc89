"""Which runs may be averaged, and which times compared: only those of one experiment, made with the same hardware, versions and code.

Columns are those of `results.runs_table`; a name that ends in a dot stands for every column that starts with it.
"""

from collections.abc import Iterable

import pandas as pd

from alexbench.files import InputError

# What was to be computed. Runs of a cell that differ here are of two experiments.
EXPERIMENT = ("recipe.", "start", "weights_sha256", "fresh_layers", "network", "parameters", "settings.precision")
# What it was computed on, and with how many others on the same GPU, which must be the same for seconds to be compared.
HARDWARE = ("device", "device_name", "cpu_name", "threads", "runs_per_gpu")
# What it was computed with besides. The commit is not among them: most commits change nothing of what trains a cell, `code` is its hash.
SOFTWARE = ("settings.", "versions.", "gpu.driver", "code")
CELL = ["framework", "variant"]


def differing(runs: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """The columns of those `names` in which the runs are not all the same."""
    columns = [column for name in names for column in runs.columns if column == name or (name[-1] == "." and column.startswith(name))]
    return [column for column in dict.fromkeys(columns) if runs[column].nunique(dropna=False) > 1]


def check(runs: pd.DataFrame) -> None:
    """InputError where runs saw other data, or those of a cell are of two experiments: it names what differs, in which runs."""
    for cell, names in [(runs, ("data_sha256",)), *((cell, EXPERIMENT) for _, cell in runs.groupby(CELL, sort=False))]:
        for column in differing(cell, names):
            found = cell.drop_duplicates(column)
            values = "".join(f"\n  {run[column]} in {run.folder}" for _, run in found.iterrows())
            raise InputError(
                f"results: runs that belong together differ in {column}:{values}\n"
                "They are never averaged or compared; delete the folders of those that are not wanted, and run their cells again"
            )


def circumstances(cell: pd.DataFrame) -> list[str]:
    """The columns of hardware, software and code in which the runs of a cell are not all the same."""
    columns = differing(cell, (*HARDWARE, *SOFTWARE))
    # On a CPU both are the processor's name.
    same = "device_name" in columns and (cell.device == "cpu").all()
    return [column for column in columns if not (same and column == "cpu_name")]


def grouped(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` with two more columns: `group`, from 1 in each cell, of the runs that were made with the same hardware, software and code,
    and `made_with`, what sets this group apart from the others of its cell ("" where there are none)."""
    parts = []
    for _, cell in runs.groupby(CELL, sort=False):
        columns = circumstances(cell)
        made_with = [", ".join(f"{name} {run[name]}" for name in columns) for _, run in cell.iterrows()]
        parts.append(cell.assign(group=pd.factorize(pd.Series(made_with))[0] + 1, made_with=made_with))
    return pd.concat(parts)


def mixed(runs: pd.DataFrame) -> list[str]:
    """What runs of the same cell differ in, to be said where they are drawn together."""
    return list(dict.fromkeys(column for _, cell in runs.groupby(CELL, sort=False) for column in circumstances(cell)))
