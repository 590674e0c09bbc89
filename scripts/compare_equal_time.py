#!/usr/bin/env python3
"""Compare a network that was given another network's training time with both networks trained as usual. Writes a table and a text.

python scripts/compare_equal_time.py --results results --frameworks pytorch --variant alexnet_mod --as-long-as alexnet --seeds 1 2 3
"""

import argparse
from pathlib import Path

import pandas as pd

from alexbench import numeric
from alexbench.analysis import comparability, comparisons, results_table, run_files
from alexbench.files import replacing, run_program


def read(folder: Path, frameworks: list[str], variant: str, as_long_as: str, seeds: list[int]) -> pd.DataFrame:
    """`run_files.runs_table` of both networks under the usual recipe, and of `variant` with the other's time, as a further variant."""
    usual = run_files.runs_table(run_files.grid(folder, frameworks, [as_long_as, variant], seeds))
    equal = run_files.runs_table(run_files.grid(folder / "equal_time", frameworks, [variant], seeds))
    theirs = usual[usual.variant == as_long_as].variant_title.iloc[0]
    title = f"{equal.variant_title.iloc[0]}, as long as {theirs}"
    runs = pd.concat([usual, equal.assign(variant=f"{variant}_as_long_as_{as_long_as}", variant_title=title)], ignore_index=True)
    # Each table was checked on its own, but the two folders may still hold runs on different data.
    comparability.check(runs)
    return runs


def answer(compared: pd.DataFrame, runs: pd.DataFrame) -> str:
    """How many epochs were trained, one line per framework; then what the comparison says, one line per pair."""
    equal = runs[runs.budget_seconds.notna()]
    lines = [
        f"- {cell.framework_title.iloc[0]}: {' or '.join(map(str, sorted(cell.epochs.unique())))} epochs instead of "
        f"{' or '.join(map(str, sorted(runs[(runs.framework == name) & runs.budget_seconds.isna()].epochs.unique())))}, "
        f"{cell.train_seconds.sum() / cell.budget_seconds.sum():.2f} times the time that it was given."
        for name, cell in equal.groupby("framework", sort=False)
    ]
    of_equal = compared[(compared.kind == "variant") & compared.a_variant.isin(equal.variant)]
    return "\n".join([*lines, *(f"- {words}" for words in of_equal.words)])


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--results",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder with runs/ and equal_time/runs/; the table is written to its equal_time/",
    )
    p.add_argument("--frameworks", required=True, nargs="+", metavar="NAME")
    p.add_argument("--variant", required=True, metavar="NAME", help="network that was given the other one's training time")
    p.add_argument("--as-long-as", required=True, metavar="NAME", help="network whose training time that was")
    p.add_argument("--seeds", required=True, nargs="+", type=numeric.seed, metavar="SEED")
    args = p.parse_args(argv)
    runs = read(args.results, args.frameworks, args.variant, args.as_long_as, args.seeds)
    table = results_table.table(runs)
    compared = comparisons.table(runs)
    with replacing(args.results / "equal_time" / "table.csv") as temporary:
        table.to_csv(temporary, index=False)
    markdown = results_table.readable(table).to_markdown(index=False, disable_numparse=True)
    text = f"{markdown}\n\n{results_table.conditions(table, runs)}\n\n{answer(compared, runs)}\n"
    with replacing(args.results / "equal_time" / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    run_program(main)
