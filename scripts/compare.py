#!/usr/bin/env python3
"""Compare pairs of cells (framework and variant) by their runs and predictions, and compute each cell's accuracy per class.

Writes comparisons.csv and comparisons.md (which cell is more accurate, which is faster) and classes.csv (accuracy per cell and class).

python scripts/compare.py --runs results/runs.csv --data resources/data/cifar10.npz --output results
"""

import argparse
from pathlib import Path

from alexbench.analysis import comparisons, results_table, run_files
from alexbench.files import replacing, run_program


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--runs",
        required=True,
        type=Path,
        metavar="CSV",
        help="runs.csv, made by collect.py; the predictions are read from the runs' folders",
    )
    p.add_argument("--data", required=True, type=Path, metavar="NPZ", help="data set that the runs were trained on; it names the classes")
    p.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    args = p.parse_args(argv)
    runs = run_files.read_runs(args.runs)
    classes = run_files.data_of(runs, args.data).classes
    compared = comparisons.table(runs)
    text = comparisons.markdown(compared)
    with replacing(args.output / "comparisons.csv") as temporary:
        compared.to_csv(temporary, index=False)
    with replacing(args.output / "comparisons.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with replacing(args.output / "classes.csv") as temporary:
        results_table.classes_table(runs, classes).to_csv(temporary, index=False)
    print(text)
    return 0


if __name__ == "__main__":
    run_program(main)
