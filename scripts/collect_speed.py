#!/usr/bin/env python3
"""Combine the rounds of the experiment on speed into tables, and into a text that says which framework is faster and why.

Writes speed.csv (one row per arm), speed_ratios.csv (one row per arm that the frameworks share) and speed.md (the text, with both).

python scripts/collect_speed.py results/speed/*/*/round*/*.csv --output results
"""

import argparse
from pathlib import Path

from alexbench.analysis import speed_tables
from alexbench.files import replacing, run_program


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("rounds", nargs="+", type=Path, metavar="CSV", help="measurements, made by time_steps.py")
    p.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    args = p.parse_args(argv)
    rows = speed_tables.read(args.rounds)
    arms, ratios = speed_tables.table(rows), speed_tables.ratios(rows)
    text = speed_tables.report(arms, ratios)
    for name, content in (
        ("speed.csv", arms.to_csv(index=False)),
        ("speed_ratios.csv", ratios.to_csv(index=False)),
        ("speed.md", text),
    ):
        with replacing(args.output / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    run_program(main)
