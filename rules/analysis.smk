TABLES = every_run("metrics.json")
FIGURES = []
