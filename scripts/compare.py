#!/usr/bin/env python3
"""Compare the cells in pairs: comparisons.csv and comparisons.md say which is better, which faster, where the runs allow it.

python scripts/compare.py --runs results/runs.csv --output results
"""

import argparse
from pathlib import Path

from alexbench import comparisons, results
from alexbench.files import replacing, run_program


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--runs", required=True, type=Path, metavar="CSV", help="runs.csv, made by collect.py; their predictions lie beside them"
    )
    p.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    args = p.parse_args(argv)
    compared = comparisons.table(results.read_table(args.runs))
    text = comparisons.markdown(compared)
    with replacing(args.output / "comparisons.csv") as temporary:
        compared.to_csv(temporary, index=False)
    with replacing(args.output / "comparisons.md") as temporary:
        temporary.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    run_program(main)
