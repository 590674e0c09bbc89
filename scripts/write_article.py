#!/usr/bin/env python3
"""Write the article from the results, as one self-contained HTML page in English or Spanish.

Results of `snakemake speed` and `snakemake parity`, and other texts (*.md) among the results, are included if they exist.

python scripts/write_article.py --results results --data resources/data/cifar10.npz --language en --output results/article.html
"""

import argparse
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from alexbench.analysis import comparisons, results_table, run_files, speed_tables
from alexbench.experiment import datasets, layers, variants
from alexbench.files import InputError, replacing, run_program
from alexbench.writing import article, charts, pages
from alexbench.writing.language import LANGUAGES, Language

# Figures of the page, made by the workflow.
FIGURES = ("samples", "architectures", "intervals", "learning", "clocks")
# Texts among the results that the page presents in another form.
KNOWN_TEXTS = ("table.md", "comparisons.md", "speed.md")
# Metrics that say how a run was made, besides its settings and versions.
MADE_WITH = ("device_name", "device", "threads", "runs_per_gpu", "platform", "git_commit", "data_sha256", "weights_sha256")
# Columns of runs.csv that only this page needs.
NEEDED = ("train_limit", "test_limit", "recipe.epochs", *(f"recipe.{name}" for name in results_table.CONVENTIONS))
SHA = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,52}")


def check_cells(runs: pd.DataFrame, table: pd.DataFrame, pairs: pd.DataFrame, folder: Path) -> None:
    """Raise InputError unless the tables have the same cells and all variants are declared."""

    def cells(rows: pd.DataFrame, prefix: str = "") -> set[tuple[str, str]]:
        return set(rows[[f"{prefix}framework", f"{prefix}variant"]].itertuples(index=False, name=None))

    there = cells(runs)
    for name, found in (("table.csv", cells(table)), ("comparisons.csv", cells(pairs, "a_") | cells(pairs, "b_"))):
        unlike = found - there if name == "comparisons.csv" else found ^ there
        if unlike:
            cell = " ".join(min(unlike))
            raise InputError(f"table: {folder / 'runs.csv'} and {folder / name} are not of the same runs ({cell}); make all tables again")
    unknown = [name for name in runs.variant.unique() if name not in variants.VARIANTS]
    if unknown:
        declared = ", ".join(variants.VARIANTS)
        raise InputError(f"table: {folder / 'runs.csv'} has the variant {unknown[0]}, which is not declared; there are {declared}")


def of_data(dataset: datasets.Dataset, runs: pd.DataFrame, _: Language) -> dict:
    """The data set as the runs used it: its size, and its classes with their numbers of images."""
    limits = run_files.limits_of(runs.iloc[0])
    used = dataset.limited(*limits)
    counts = [np.bincount(labels, minlength=len(dataset.classes)).tolist() for labels in (used.train_labels, used.test_labels)]
    known = datasets.source(dataset.name)
    whole = {"whole_train": len(dataset.train_labels), "whole_test": len(dataset.test_labels)}
    return whole | {
        "name": dataset.name,
        "title": _(known.TITLE) if known else dataset.name,
        "about": _(known.ABOUT) if known and known.ABOUT else "",
        "train": len(used.train_labels),
        "test": len(used.test_labels),
        "is_subset": limits != (None, None),
        "classes": list(zip(dataset.classes, *counts, strict=True)),
    }


def of_variant(name: str, classes: int, language: Language) -> dict:
    """A network's declaration, layer by layer."""
    variant = variants.get(name, classes)
    rows = [
        {"name": info.name, "setting": setting(info.layer, language), "output": "×".join(map(str, info.output_shape))}
        # A residual's own are those of the layers in it, which have rows of their own.
        | {"parameters": 0 if info.body else info.parameters, "multiply_adds": 0 if info.body else info.multiply_adds}
        for info in layers.every_layer(variant)
    ]
    totals = {"parameters": layers.parameters(variant), "multiply_adds": layers.multiply_adds(variant)}
    return totals | {"title": variant.title, "description": variant.description, "layers": rows}


def setting(layer: layers.Layer, _: Language) -> str:
    """A layer's own numbers in words."""
    match layer:
        case layers.Conv(filters, kernel, stride, padding):
            text = _("%(filters)s filters of %(kernel)s×%(kernel)s", filters=filters, kernel=kernel)
            text += _(", stride %(stride)s", stride=stride) if stride > 1 else ""
            text += _(", padding %(padding)s", padding=padding) if padding else ""
            return text + (_(", %(groups)s groups", groups=layer.groups) if layer.groups > 1 else "")
        case layers.MaxPool(window, stride):
            return _("%(window)s×%(window)s, stride %(stride)s", window=window, stride=stride)
        case layers.AvgPool(window, stride):
            return _("%(window)s×%(window)s, stride %(stride)s", window=window, stride=stride)
        case layers.Pad(size):
            return _("%(size)s pixels on each side", size=size)
        case layers.LocalResponseNorm(size):
            return _("over %(size)s channels", size=size)
        case layers.Residual(_layers, projection):
            return _("plus a projection of its input") if projection else _("plus its input")
    return ""


def differs_from_original(runs: pd.DataFrame, _: Language) -> str:
    """How the experiment differs from the original study's, in a few words; "" if nothing of what is recorded does."""

    def shown(value: object) -> str:
        if value is None:
            return _("not recorded")
        if isinstance(value, bool):
            return _("yes") if value else _("no")
        return _.number(value) if isinstance(value, int) or (isinstance(value, float) and value.is_integer()) else str(value)

    titles = {"dataset": _("Data"), "train_images": _("Training images"), "settings.precision": _("Precision")}
    titles |= {f"recipe.{key}": title for key, title in recipe_titles(_).items()}
    parts = []
    for column, values in results_table.differing_from_original(runs).items():
        name = titles[column][0].lower() + titles[column][1:]
        ours, theirs = _.either([shown(value) for value in values]), shown(results_table.ORIGINAL_EXPERIMENT[column])
        parts.append(_("%(name)s %(ours)s instead of %(theirs)s", name=name, ours=ours, theirs=theirs))
    return "; ".join(parts)


def speed_sentences(folder: Path, titles: dict[str, str], _: Language) -> list[str]:
    """The ratios of the experiment on speed that the page reports: following the tutorials, and with the fast step."""
    table = article.speed_ratios(folder)
    sentences = []
    for row in () if table is None else table.itertuples():
        where = {"variant": variants.get(row.variant).title, "device": row.device}
        if row.arm == "notebook":
            start = _("%(variant)s on %(device)s, as in the tutorials:", **where)
        else:
            start = _("%(variant)s on %(device)s, with the fast step:", **where)
        sentences.append(f"{start} {speed_tables.on_time(titles.get(row.framework, row.framework), titles.get(row.to, row.to), row, _)}")
    return sentences


class Numbered:
    """Numbers figures and tables in order of appearance."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def figure(self) -> int:
        return self._next("figure")

    def table(self) -> int:
        return self._next("table")

    def _next(self, kind: str) -> int:
        self.counts[kind] += 1
        return self.counts[kind]


def content(folder: Path, data: Path, language: Language) -> dict:
    """Everything that the template uses."""
    _ = language
    runs, table = run_files.read_runs(folder / "runs.csv", NEEDED), results_table.read(folder / "table.csv")
    pairs = comparisons.read(folder / "comparisons.csv")
    check_cells(runs, table, pairs, folder)
    compared = article.comparisons(pairs, table)
    between_frameworks = [c for c in compared if c.kind == "framework"]
    between_variants = [c for c in compared if c.kind == "variant"]
    fastest, none_fastest = article.leaders(between_frameworks, "faster")
    most_accurate, none_most_accurate = article.leaders(between_frameworks, "more_accurate")
    titles = dict(zip(runs.framework, runs.framework_title, strict=True))
    speed = speed_sentences(folder, titles, language)
    tradeoffs = charts.tradeoffs(runs, table, language)
    parity = [
        (
            pages.text(path).partition("\n")[0].removeprefix("# ").partition(":")[0],
            pages.from_markdown(pages.text(path).partition("\n")[2]),
        )
        for path in sorted((folder / "parity").glob("*.md"))
    ]
    texts = {path.stem: path for path in sorted(folder.glob("*.md")) if path.name not in KNOWN_TEXTS}
    texts |= {path.parent.name: path for path in sorted(folder.glob("*/table.md"))}
    further = [(further_titles(language).get(name, name), pages.from_markdown(pages.text(path))) for name, path in texts.items()]
    within = table.accuracy_original_within.dropna()
    front = charts.pareto(table[table.n > 0], "train_seconds", "accuracy")
    sections = ["introduction", "data", "models", "method", "results", "learning", "tradeoff", "time"]
    dataset = run_files.data_of(runs, data)
    sections += (["parity"] if parity else []) + (["further"] if further else []) + ["analysis", "conclusions", "provenance"]
    hardware = _.listed(runs.device_name.unique().tolist())
    return {
        "numbered": Numbered(),
        "sections": sections,
        "frameworks": _.listed(list(titles.values())),
        "framework_titles": list(dict.fromkeys(titles.values())),
        "framework_count": runs.framework.nunique(),
        "variant_count": runs.variant.nunique(),
        "seed_count": runs.seed.nunique(),
        "total_runs": len(runs),
        "lost": int((runs.status != "completed").sum()),
        "cells": [row for _index, row in table.iterrows()],
        "interval": article.interval,
        "cell_title": article.title,
        "starts": table.start.nunique() > 1,
        "grouped": table.made_with.any(),
        "single": 1 in set(table.n),
        "fewest": int(table.n.min()),
        "time_digits": 0 if runs.train_seconds.min() >= 100 else 1,
        "dataset": of_data(dataset, runs, language),
        "variants": [of_variant(name, len(dataset.classes), language) for name in runs.variant.unique()],
        "figures": {name: pages.embedded(folder / "figures" / f"{name}.png") for name in FIGURES}
        | {
            "speed": [pages.embedded(path) for path in sorted((folder / "figures" / "speed").glob("*/ratio.png"))],
        },
        "tradeoff": Markup(charts.svg(tradeoffs["train_seconds accuracy"], language.code)),
        "axes": list(charts.titles(language).items()),
        "tradeoff_specs": pages.inline_json({"charts": tradeoffs, "locale": charts.format_locale(language.code)}),
        "vega": Markup(charts.scripts()),
        "front": [article.title(row) for _index, row in front.iterrows()],
        "recipe": [(key.partition(".")[2], values) for key, values in article.by_framework(runs, _columns(runs, "recipe."))],
        "recipe_titles": recipe_titles(language),
        "optimizer": "SGD" if set(runs.get("recipe.optimizer", ())) == {"sgd"} else "Adam",
        "recipe_epochs": ", ".join(map(str, runs["recipe.epochs"].unique())),
        "recipe_batch": ", ".join(map(str, runs.batch_size.unique())),
        "controlled": article.is_controlled(runs),
        "hardware": hardware,
        "has_original": bool(table.accuracy_minus_original.notna().any()),
        "same_experiment": results_table.is_original_experiment(runs),
        "what_differs": differs_from_original(runs, language),
        "original_within": int(within.astype(bool).sum()),
        "original_known": len(within),
        "best": article.best(table, compared),
        "between_frameworks": between_frameworks,
        "between_variants": between_variants,
        "comparison_count": len(between_frameworks) + len(between_variants),
        "accuracy_sentence": lambda compared: article.accuracy_sentence(compared, language),
        "time_sentence": lambda compared: article.time_sentence(compared, language),
        "fastest": fastest,
        "none_fastest": none_fastest,
        "most_accurate": most_accurate,
        "none_most_accurate": none_most_accurate,
        "learned": article.learning(runs),
        "validation_images": int(runs.validation_images.max()) if run_files.evaluated_on(runs) == "validation" else 0,
        "speed": speed,
        "parity": parity,
        "further": further,
        "provenance": provenance(runs),
        "provenance_titles": provenance_titles(language),
    }


def further_titles(_: Language) -> dict[str, str]:
    return {"equal_time": _("The small network trained for as long as the large one")}


def recipe_titles(_: Language) -> dict[str, str]:
    return {
        "epochs": _("Epochs"),
        "batch_size": _("Batch size"),
        "optimizer": _("Optimizer"),
        "learning_rate": _("Learning rate"),
        "momentum": _("SGD’s momentum"),
        "nesterov": _("Nesterov’s momentum"),
        "dropout": _("Dropout"),
        "initialisation": _("Initialisation"),
        "adam_epsilon": _("Adam’s epsilon"),
        "normalisation": _("Normalisation"),
        "schedule": _("Learning-rate schedule"),
        "warm_up_epochs": _("Warm-up epochs"),
        "weight_decay": _("Weight decay"),
        "label_smoothing": _("Label smoothing"),
        "flips": _("Random mirroring"),
        "crop_padding": _("Random crops: padding (pixels)"),
        "frozen_features": _("Frozen convolutions"),
    }


def provenance_titles(_: Language) -> dict[str, str]:
    return {
        "device_name": _("Hardware"),
        "device": _("Device"),
        "threads": _("CPU threads"),
        "runs_per_gpu": _("Concurrent runs per GPU"),
        "platform": _("System"),
        "git_commit": _("Code (commit)"),
        "data_sha256": _("Data (SHA-256)"),
        "weights_sha256": _("Trained weights (SHA-256)"),
    }


def provenance(runs: pd.DataFrame) -> list[tuple[str, dict[str, str]]]:
    """What the runs were made with, by framework; hashes are shortened to 12 digits."""
    rows = article.by_framework(runs, [*MADE_WITH, *_columns(runs, "settings."), *_columns(runs, "versions.")])
    return [(key, {title: SHA.sub(r"\1", value) for title, value in values.items()}) for key, values in rows]


def _columns(runs: pd.DataFrame, prefix: str) -> list[str]:
    return [column for column in runs if column.startswith(prefix)]


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--results", required=True, type=Path, metavar="FOLDER", help="folder with the tables and figures that the workflow made"
    )
    p.add_argument("--data", required=True, type=Path, metavar="NPZ", help="data set that the runs were trained on")
    p.add_argument("--language", choices=LANGUAGES, default="en", help="language of the page (%(default)s)")
    p.add_argument("--output", required=True, type=Path, metavar="HTML")
    args = p.parse_args(argv)
    language = Language(args.language)
    page = pages.environment(language).get_template("article.html.j2").render(content(args.results, args.data, language))
    with replacing(args.output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_program(main)
