# The article as a page, and what else Snakemake's report shows: tables as pages, the code, a front page.

REPORT_PAGES = expand(
    f"{RESULTS}/{{page}}.html",
    page=["article", *(f"pages/{name}" for name in ("table", "comparisons", "classes", "runs", "environment", "code"))],
)


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


rule show_results:
    input:
        files=rules.collect.output.markdown,
    output:
        page=report(
            f"{RESULTS}/pages/table.html",
            caption="captions/table.rst",
            category="Results",
            labels={"what": "Results table"},
        ),
    log:
        f"{LOGS}/pages/table.log",
    localrule: True
    conda:
        "../envs/analysis.yaml"
    params:
        **program("write_page.py"),
        title="Results table",
    shell:
        "{params.script:q} {input.files:q} --title {params.title:q} --output {output.page:q} 2> {log:q}"


# `use rule` does not inherit `localrule`.
use rule show_results as show_comparisons with:
    input:
        files=rules.compare.output.markdown,
    output:
        page=report(
            f"{RESULTS}/pages/comparisons.html",
            caption="captions/comparisons.rst",
            category="Results",
            labels={"what": "Cells in pairs: better, faster"},
        ),
    log:
        f"{LOGS}/pages/comparisons.log",
    localrule: True
    params:
        **program("write_page.py"),
        title="Cells in pairs",


use rule show_results as show_classes with:
    input:
        files=rules.compare.output.classes,
    output:
        page=report(
            f"{RESULTS}/pages/classes.html",
            caption="captions/class_accuracy.rst",
            category="Results",
            labels={"what": "Accuracy class by class"},
        ),
    log:
        f"{LOGS}/pages/classes.log",
    localrule: True
    params:
        **program("write_page.py"),
        title="Accuracy class by class",


use rule show_results as show_runs with:
    input:
        files=rules.collect.output.runs,
    output:
        page=report(
            f"{RESULTS}/pages/runs.html",
            caption="captions/runs.rst",
            category="Provenance",
            labels={"what": "Every run, with all that it recorded"},
        ),
    log:
        f"{LOGS}/pages/runs.log",
    localrule: True
    params:
        **program("write_page.py"),
        title="Every run",


use rule show_results as show_environment with:
    input:
        files=rules.environment.output.json,
    output:
        page=report(
            f"{RESULTS}/pages/environment.html",
            caption="captions/environment.rst",
            category="Provenance",
            labels={"what": "Machines, versions, code"},
        ),
    log:
        f"{LOGS}/pages/environment.log",
    localrule: True
    params:
        **program("write_page.py"),
        title="Machines, versions, code",


use rule show_results as show_equal_time with:
    input:
        files=rules.compare_equal_time.output.markdown,
    output:
        page=report(
            f"{RESULTS}/pages/equal_time.html",
            caption="captions/equal_time.rst",
            category="Results",
            labels={"what": "Equal training time"},
        ),
    log:
        f"{LOGS}/pages/equal_time.log",
    localrule: True
    params:
        **program("write_page.py"),
        title="Equal training time",


use rule show_results as show_speed with:
    input:
        files=rules.collect_speed.output.text,
    output:
        page=report(
            f"{RESULTS}/pages/speed.html",
            caption="captions/speed.rst",
            category="Time",
            labels={"what": "Which is faster, and why"},
        ),
    log:
        f"{LOGS}/pages/speed.log",
    localrule: True
    params:
        **program("write_page.py"),
        title="Speed",


use rule show_results as show_arms with:
    input:
        files=rules.collect_speed.output.arms,
    output:
        page=report(
            f"{RESULTS}/pages/arms.html",
            caption="captions/speed.rst",
            category="Time",
            labels={"what": "Every arm"},
        ),
    log:
        f"{LOGS}/pages/arms.log",
    localrule: True
    params:
        **program("write_page.py"),
        title="Every arm of the experiment on speed",


use rule show_results as show_parity with:
    input:
        files=rules.compare_parity.output.table,
    output:
        page=report(
            f"{RESULTS}/pages/parity/{{variant}}.html",
            caption="captions/parity.rst",
            category="Provenance",
            labels={"what": "The same network in every framework: {variant}"},
        ),
    log:
        f"{LOGS}/pages/parity/{{variant}}.log",
    localrule: True
    params:
        **program("write_page.py"),
        title="Parity",


use rule show_results as show_code with:
    input:
        files=code_files(),
    output:
        page=report(
            f"{RESULTS}/pages/code.html",
            caption="captions/code.rst",
            category="Provenance",
            labels={"what": "Code of tables and figures, environments"},
        ),
    log:
        f"{LOGS}/pages/code.log",
    localrule: True
    params:
        script=script("write_page.py"),
        title="Code of tables and figures, environments",
