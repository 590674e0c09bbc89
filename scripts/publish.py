#!/usr/bin/env python3
"""Publish the runs kept in docs/results/NAME/runs/: tables, figures, the article as PDF, and the tables in README.md and docs/results.md.

Only reads runs; trains nothing. In the documents it replaces the text between `<!-- published: ... -->` and `<!-- end -->`; in
config/README.md these are the tables of settings.

python scripts/publish.py                                                # only the documents
python scripts/publish.py --data resources/data/cifar10.npz
python scripts/publish.py --data resources/data/cifar10.npz --tables      # numbers only
"""

import argparse
import contextlib
import io
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import collect
import compare
import keep_runs
import plot_architectures
import plot_calibration
import plot_clocks
import plot_intervals
import plot_learning
import plot_samples
import plot_time_to_accuracy
import plot_tradeoff
import print_page
import record_environment
import write_article
from alexbench import settings
from alexbench.analysis import results_table, run_files, stats
from alexbench.experiment import variants
from alexbench.experiment.execution import Execution
from alexbench.experiment.recipe import Recipe
from alexbench.files import InputError, replacing, run_program, write_json
from alexbench.paths import EVERY_RUN
from alexbench.writing.language import LANGUAGES

# The campaigns that train the original study's networks with its recipe.
ORIGINAL_CAMPAIGNS = ("mod", "large", "pretrained")
ORIGINAL_FRAMEWORKS = {"pytorch": "PyTorch", "tensorflow": "TensorFlow"}
DOCUMENTS = [Path("README.md"), Path("docs/results.md"), Path("config/README.md")]
# Larger figures do not belong in a repository.
FIGURE_BYTES = 400_000
FIGURES_BYTES = 5_000_000

MARKED = re.compile(r"(<!-- published: (?P<name>[a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def quietly(program: Callable, *arguments: object) -> None:
    """Call a program's `main` and discard what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        program([str(argument) for argument in arguments])


def make_tables(folder: Path, data: Path) -> None:
    """Make runs.csv, table.*, comparisons.* and classes.csv from `folder`/runs/."""
    found = [path.relative_to(folder).parts for path in folder.glob(f"{EVERY_RUN}/metrics.json")]
    frameworks, networks, seeds = (set(column) for column in list(zip(*found, strict=True))[1:4])
    seeds = sorted(int(seed.removeprefix("seed")) for seed in seeds)
    grid = ["--frameworks", *sorted(frameworks), "--variants", *(name for name in variants.VARIANTS if name in networks), "--seeds", *seeds]
    quietly(collect.main, "--results", folder, *grid, "--partial")
    quietly(compare.main, "--runs", folder / "runs.csv", "--data", data, "--output", folder)


def draw(folder: Path, data: Path, figures: Path, language: str) -> None:
    """Draw every figure of the runs in `folder`, as PNG."""
    runs = ["--runs", folder / "runs.csv"]
    networks = run_files.read_runs(folder / "runs.csv").variant.unique()
    for name, program, arguments in (
        ("tradeoff", plot_tradeoff, runs),
        ("learning", plot_learning, [*runs, "--language", language]),
        ("time_to_accuracy", plot_time_to_accuracy, runs),
        ("calibration", plot_calibration, runs),
        ("clocks", plot_clocks, [*runs, "--language", language]),
        ("intervals", plot_intervals, [*runs, "--table", folder / "table.csv", "--language", language]),
        ("architectures", plot_architectures, ["--variants", *networks, "--data", data, "--language", language]),
        ("samples", plot_samples, ["--data", data, "--language", language]),
    ):
        quietly(program.main, *arguments, "--output", figures / f"{name}.png")
        (figures / f"{name}.svg").unlink()


def print_article(folder: Path, data: Path, language: str) -> None:
    """Write the article in one language and print it as article.LANGUAGE.pdf; the English figures are also kept as files."""
    with tempfile.TemporaryDirectory() as temporary:
        pages = Path(temporary)
        for table in ("runs.csv", "table.csv", "comparisons.csv"):
            shutil.copy(folder / table, pages)
        (pages / "figures").mkdir()
        draw(folder, data, pages / "figures", language)
        quietly(write_article.main, "--results", pages, "--data", data, "--language", language, "--output", pages / "article.html")
        quietly(print_page.main, pages / "article.html", "--output", folder / f"article.{language}.pdf")
        if language == "en":
            shutil.rmtree(folder / "figures", ignore_errors=True)
            # Sample images do not depend on the runs.
            shutil.copytree(pages / "figures", folder / "figures", ignore=shutil.ignore_patterns("samples.png"))


def original_table(root: Path) -> str:
    """The original study's five results beside ours, with the difference and whether a further run of ours could match the original."""
    cells = [results_table.read(path) for name in ORIGINAL_CAMPAIGNS if (path := root / name / "table.csv").is_file()]
    if not cells:
        return "No complete run is published yet."
    ours = pd.concat(cells)
    rows = []
    for theirs in results_table.read_original(collect.ORIGINAL).itertuples():
        known = {"Framework": ORIGINAL_FRAMEWORKS[theirs.framework], "Network": variants.get(theirs.variant).title}
        known |= {"Original": f"{theirs.accuracy:.4f}"}
        found = ours[(ours.framework == theirs.framework) & (ours.variant == theirs.variant)]
        if found.empty:
            rows.append(known | {"Ours": "not run yet"})
        for _, row in found.iterrows():
            of_runs = {"Runs": results_table.counted(row).removeprefix("n = ")}
            if row.n:
                spread = "" if pd.isna(row.accuracy_sd) else f" ± {row.accuracy_sd:.4f}"
                of_runs |= {"Ours": f"{row.accuracy:.4f}{spread}", "Difference": f"{row.accuracy_minus_original:+.4f}"}
            if row.n > 1:
                where = "within" if row.accuracy_original_within else "outside"
                of_runs |= {"Next run, 95 %": f"{row.accuracy_run_low:.4f} to {row.accuracy_run_high:.4f}", "Original lies": where}
            rows.append(known | of_runs)
    return markdown(rows, ["Framework", "Network", "Original", "Ours", "Runs", "Difference", "Next run, 95 %", "Original lies"])


def precision_table(root: Path) -> str:
    """The small network's accuracy in bf16 and in fp32, with the same seeds."""
    if not all((root / name / "runs.csv").is_file() for name in ("mod", "mod_fp32")):
        return "Not run yet."
    coarse, fine = (run_files.read_runs(root / name / "runs.csv") for name in ("mod", "mod_fp32"))
    rows = []
    for framework, title in dict(zip(fine.framework, fine.framework_title, strict=True)).items():
        ours, theirs = (
            cell[cell.status == "completed"].set_index("seed").accuracy
            for cell in (run_files.cell(runs, framework, "alexnet_mod") for runs in (coarse, fine))
        )
        seeds = sorted(set(ours.index) & set(theirs.index))
        found = stats.difference_interval(ours[seeds], theirs[seeds], paired=True)
        row = {"Framework": title, "Seeds": ", ".join(map(str, seeds))}
        if seeds:
            row |= {"bf16": f"{ours[seeds].mean():.4f}", "fp32": f"{theirs[seeds].mean():.4f}", "Difference": f"{found.value:+.4f}"}
        # There is no interval if there is only one seed, or if all seeds differ by the same amount.
        if not pd.isna(found.low):
            row |= {"95 % interval": f"{found.low:+.4f} to {found.high:+.4f}"}
        rows.append(row)
    return markdown(rows, ["Framework", "bf16", "fp32", "Difference", "95 % interval", "Seeds"])


BLOCKS = {
    "original": original_table,
    "precision": precision_table,
    "recipe": lambda _: settings.table(Recipe),
    "execution": lambda _: settings.table(Execution),
}


def markdown(rows: list[dict], columns: list[str]) -> str:
    """Rows as a Markdown table, with a dash for missing values."""
    table = pd.DataFrame(rows, columns=columns, dtype=object).fillna("–")
    text = ("Framework", "Network")
    return table.to_markdown(index=False, colalign=["left" if name in text else "right" for name in table], disable_numparse=True)


def fill(document: Path, root: Path) -> None:
    """Rewrite every marked part of a document; InputError if a part has an unknown name."""

    def part(found: re.Match) -> str:
        if found["name"] not in BLOCKS:
            raise InputError(f"publish: {document} marks {found['name']!r}; there are {', '.join(BLOCKS)}")
        # Without the blank lines, some readers of Markdown take the marks for rows.
        return f"{found[1]}\n{BLOCKS[found['name']](root)}\n\n{found[3]}"

    text = MARKED.sub(part, document.read_text(encoding="utf-8"))
    with replacing(document) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_sizes(root: Path) -> None:
    """Raise InputError if the figures are too large for a repository."""
    figures = {path: path.stat().st_size for path in root.glob("*/figures/*.png")}
    for path, size in figures.items():
        if size > FIGURE_BYTES:
            raise InputError(f"publish: {path} has {size:,} bytes, more than {FIGURE_BYTES:,}; draw less in it")
    if sum(figures.values()) > FIGURES_BYTES:
        raise InputError(f"publish: the figures have {sum(figures.values()):,} bytes together, more than {FIGURES_BYTES:,}")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--results", type=Path, default=Path("docs/results"), metavar="FOLDER", help="folder with NAME/runs/ (%(default)s)")
    p.add_argument(
        "--documents",
        type=Path,
        nargs="+",
        default=DOCUMENTS,
        metavar="MD",
        help=f"documents with marked parts ({', '.join(map(str, DOCUMENTS))})",
    )
    p.add_argument(
        "--data", type=Path, metavar="NPZ", help="data set that the runs were trained on; without it, only the documents are filled"
    )
    p.add_argument("--tables", action="store_true", help="make only tables: no figures, no PDF")
    args = p.parse_args(argv)
    folders = sorted(path.parent for path in args.results.glob("*/runs") if path.is_dir())
    if args.data and not folders:
        raise InputError(f"publish: {args.results} holds no NAME/runs/; keep some with scripts/keep_runs.py")
    for folder in folders if args.data else ():
        make_tables(folder, args.data)
        print(folder / "table.md", flush=True)
        if not args.tables:
            record_environment.main(["--runs", str(folder / "runs.csv"), "--output", str(folder / "environment.json")])
            found = json.loads((folder / "environment.json").read_bytes())
            write_json(folder / "environment.json", {key: value for key, value in found.items() if key not in keep_runs.PRIVATE})
            for language in LANGUAGES:
                print_article(folder, args.data, language)
                print(folder / f"article.{language}.pdf", flush=True)
    check_sizes(args.results)
    for document in args.documents:
        fill(document, args.results)
        print(document)
    return 0


if __name__ == "__main__":
    run_program(main)
