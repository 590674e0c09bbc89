# A rule for each figure of figures.smk: plot_tradeoff, plot_learning, ...

for name, figure in FIGURES.items():

    rule:
        name:
            f"plot_{name}"
        input:
            **figure["inputs"],
            beside=figure.get("beside", []),
        output:
            png=report(
                figure_path(name, "png"),
                caption=f"captions/{name}.rst",
                category=figure["category"],
                subcategory=figure.get("subcategory"),
                labels={"what": figure["title"]}
                | ({"framework": "{framework}", "variant": "{variant}"} if figure.get("per_cell") else {}),
            ),
            svg=figure_path(name, "svg"),
        log:
            figure_path(name, "log").replace(RESULTS, LOGS, 1),
        localrule: True
        conda:
            "../envs/analysis.yaml"
        params:
            **program(f"plot_{name}.py"),
            options=figure_options(figure),
            networks=figure.get("networks", []),
        shell:
            "{params.script:q} {params.options:q} --output {output.png:q} 2> {log:q}"
