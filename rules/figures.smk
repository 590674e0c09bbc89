# Every figure, declared once. Its program is scripts/plot_NAME.py, its caption captions/NAME.rst; rules/plots.smk turns each into a rule.
#   category, subcategory, title: where the report shows it, and under which title
#   inputs:   files that its program gets as options of the same names
#   beside:   further input files, which its program finds by itself
#   options:  further options
#   language: True if its texts are in the configuration's language
#   per_cell: True if there is one for each framework and variant
#   article:  True if the article shows it

RUNS, TABLE = rules.collect.output.runs, rules.collect.output.table

FIGURES = {
    "tradeoff": {
        "category": "Results",
        "title": "Accuracy, parameters, training time",
        "inputs": {"runs": RUNS, "original": ORIGINAL},
    },
    "intervals": {
        "category": "Results",
        "title": "Accuracy with its intervals",
        "inputs": {"runs": RUNS, "table": TABLE},
        "language": True,
        "article": True,
    },
    "learning": {
        "category": "Learning",
        "title": "Learning curves",
        "inputs": {"runs": RUNS},
        "beside": every_run("history.csv"),
        "language": True,
        "article": True,
    },
    "calibration": {
        "category": "Learning",
        "title": "Calibration",
        "inputs": {"runs": RUNS},
        "beside": every_run("predictions.npz"),
    },
    "classes": {
        "category": "Learning",
        "subcategory": "Classes",
        "title": "Confusion matrix",
        "inputs": {"runs": RUNS, "data": DATA},
        "beside": every_seed("predictions.npz"),
        "per_cell": True,
    },
    "mistakes": {
        "category": "Learning",
        "subcategory": "Mistakes",
        "title": "Most confident mistakes",
        "inputs": {"runs": RUNS, "data": DATA},
        "beside": every_seed("predictions.npz"),
        "per_cell": True,
    },
    "time_to_accuracy": {
        "category": "Time",
        "title": "Training time to an accuracy",
        "inputs": {"runs": RUNS},
        "beside": every_run("history.csv"),
    },
    "clocks": {
        "category": "Time",
        "title": "What a run's seconds are spent on",
        "inputs": {"runs": RUNS},
        "language": True,
        "article": True,
    },
    "samples": {
        "category": "Data and models",
        "title": "Sample images",
        "inputs": {"data": DATA},
        "language": True,
        "article": True,
    },
    "architectures": {
        "category": "Data and models",
        "title": "Architectures",
        "inputs": {"data": DATA},
        "options": ["--variants", *config["variants"]],
        # Drawn again when a network's declaration changes.
        "networks": [fingerprint.of_variant(variants.get(name)) for name in config["variants"]],
        "language": True,
        "article": True,
    },
}
