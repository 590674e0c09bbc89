# The article as a page, and what else Snakemake's report shows: tables as pages, the code, a front page.

# Every page that shows files, once; below, each becomes a rule: show_results, show_comparisons, ...
#   files:    what it shows
#   category, label: where the report shows it, and as what
#   title:    its heading, if that is not the label
#   path:     its place in pages/, if that is not its name
#   caption:  its text in captions/, if that does not have its name
#   optional: True if the default run does not make it
PAGES = {
    "results": {
        "files": rules.collect.output.markdown,
        "category": "Results",
        "label": "Results table",
        "path": "table",
        "caption": "table",
    },
    "comparisons": {
        "files": rules.compare.output.markdown,
        "category": "Results",
        "label": "Pairs of cells: better, faster",
        "title": "Pairs of cells",
    },
    "classes": {
        "files": rules.compare.output.classes,
        "category": "Results",
        "label": "Accuracy class by class",
        "caption": "class_accuracy",
    },
    "runs": {
        "files": rules.collect.output.runs,
        "category": "Provenance",
        "label": "Every run, with all that it recorded",
        "title": "Every run",
    },
    "environment": {
        "files": rules.environment.output.json,
        "category": "Provenance",
        "label": "Machines, versions, code",
    },
    "code": {
        "files": code_files,
        "category": "Provenance",
        "label": "Code of tables and figures, environments",
    },
    "equal_time": {
        "files": rules.compare_equal_time.output.markdown,
        "category": "Results",
        "label": "Equal training time",
        "optional": True,
    },
    "speed": {
        "files": rules.collect_speed.output.text,
        "category": "Time",
        "label": "Which is faster, and why",
        "title": "Speed",
        "optional": True,
    },
    "arms": {
        "files": rules.collect_speed.output.arms,
        "category": "Time",
        "label": "Every arm",
        "title": "Every arm of the experiment on speed",
        "caption": "speed",
        "optional": True,
    },
    "parity": {
        "files": rules.compare_parity.output.table,
        "category": "Provenance",
        "label": "The same network in every framework: {variant}",
        "title": "Parity",
        "path": "parity/{variant}",
        "optional": True,
    },
}
REPORT_PAGES = [f"{RESULTS}/article.html", *(page_path(name) for name, page in PAGES.items() if not page.get("optional"))]


report: "captions/workflow.rst"


# `snakemake article`: the page and also its PDF, which needs the system library Pango.
rule article:
    input:
        f"{RESULTS}/article.html",
        f"{RESULTS}/article.pdf",
    localrule: True


rule write_article:
    input:
        runs=rules.collect.output.runs,
        table=rules.collect.output.table,
        comparisons=rules.compare.output.table,
        history=every_run("history.csv"),
        figures=[figure_path(name, "png") for name, figure in FIGURES.items() if figure.get("article")],
        data=DATA,
    output:
        page=report(
            f"{RESULTS}/article.html",
            caption="captions/article.rst",
            category="Results",
            labels={"what": "The article, as a page"},
        ),
    log:
        f"{LOGS}/article.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("write_article.py"),
        folder=subpath(output.page, parent=True),
        language=config["language"],
        # Not used in the command; the page is rewritten when these results appear or change, but does not cause them to be made.
        besides=experiments_besides(),
        networks=[fingerprint.of_variant(variants.get(name)) for name in config["variants"]],
    shell:
        "{params.script:q} --results {params.folder:q} --data {input.data:q} --language {params.language}"
        " --output {output.page:q} 2> {log:q}"


rule print_article:
    input:
        page=rules.write_article.output.page,
    output:
        pdf=f"{RESULTS}/article.pdf",
    log:
        f"{LOGS}/article_pdf.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("print_page.py"),
    shell:
        "{params.script:q} {input.page:q} --output {output.pdf:q} 2>&1 | tee {log:q}"


for name, page in PAGES.items():

    rule:
        name:
            f"show_{name}"
        input:
            files=page["files"],
        output:
            page=report(
                page_path(name),
                caption=f"captions/{page.get('caption', name)}.rst",
                category=page["category"],
                labels={"what": page["label"]},
            ),
        log:
            page_path(name, "log").replace(RESULTS, LOGS, 1),
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            **program("write_page.py"),
            title=page.get("title", page["label"]),
        shell:
            "{params.script:q} {input.files:q} --title {params.title:q} --output {output.page:q} 2> {log:q}"
