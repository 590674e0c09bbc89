#!/usr/bin/env python3
"""Make tables of an experiment's runs: runs.csv (one row per run) and table.csv, .md and .tex (one row per framework and variant).

python scripts/collect.py --results results --frameworks pytorch tensorflow --variants alexnet_mod --seeds 1 2 3
"""

import argparse
from pathlib import Path

import pandas as pd

from alexbench import numeric
from alexbench.analysis import results_table, run_files
from alexbench.files import replacing, run_program

ORIGINAL = Path(__file__).resolve().parents[1] / "config" / "original.csv"


def aligned(table: pd.DataFrame) -> list[str]:
    """The alignment of each column: names left, numbers right."""
    names = ("Framework", "Variant", "Made with", "Start")
    return ["left" if column in names else "right" for column in results_table.readable(table)]


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--results",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder with runs/FRAMEWORK/VARIANT/seedSEED/; the tables are written there too",
    )
    p.add_argument("--frameworks", required=True, nargs="+", metavar="NAME", help="frameworks of the runs")
    p.add_argument("--variants", required=True, nargs="+", metavar="NAME", help="variants of the runs")
    p.add_argument("--seeds", required=True, nargs="+", type=numeric.seed, metavar="SEED", help="seeds of the runs")
    p.add_argument("--original", type=Path, default=ORIGINAL, metavar="CSV", help="the original study's results (config/original.csv)")
    p.add_argument("--partial", action="store_true", help="accept missing runs; the tables say how many are missing")
    args = p.parse_args(argv)
    wanted = run_files.grid(args.results, args.frameworks, args.variants, args.seeds)
    runs = run_files.runs_table(wanted, partial=args.partial)
    table = results_table.table(runs, results_table.read_original(args.original))
    about = results_table.conditions(table, runs, missing=len(wanted) - len(runs))

    with replacing(args.results / "runs.csv") as temporary:
        runs.to_csv(temporary, index=False)
    with replacing(args.results / "table.csv") as temporary:
        table.to_csv(temporary, index=False)
    with replacing(args.results / "table.md") as temporary:
        markdown = results_table.readable(table).to_markdown(index=False, colalign=aligned(table), disable_numparse=True)
        temporary.write_text(f"{markdown}\n\n{about}\n", encoding="utf-8")
    with replacing(args.results / "table.tex") as temporary:
        latex = results_table.readable(table, plus_minus=r"$\pm$", missing="--")
        latex = latex.replace(r"_", r"\_", regex=True).style.hide(axis="index")
        body = latex.to_latex(hrules=True, column_format="".join(place[0] for place in aligned(table)))
        temporary.write_text(f"% Needs \\usepackage{{booktabs}}, and a wide page. {about.replace('±', '+-')}\n{body}", encoding="utf-8")
    print(f"{len(runs)} of {len(wanted)} runs -> {args.results / 'table.md'}")
    print((args.results / "table.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    run_program(main)
