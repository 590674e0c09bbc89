#!/usr/bin/env python3
"""Show files in one self-contained HTML page: CSV as sortable tables, Markdown as text, anything else as code.

python scripts/write_page.py results/table.csv --title "Results table" --output results/pages/table.html
"""

import argparse
from pathlib import Path

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename

from alexbench import tables
from alexbench.files import InputError, replacing, run_program
from alexbench.writing import pages
from alexbench.writing.language import Language

CODE = HtmlFormatter(style="default", noclasses=True)


def shown(path: Path) -> Markup:
    """A file's content as HTML."""
    if path.suffix == ".csv":
        return pages.from_table(tables.read(path, {}, "delete it, and the workflow makes it again"))
    text = pages.text(path)
    if path.suffix == ".md":
        return pages.from_markdown(text)
    return Markup(highlight(text, get_lexer_for_filename(path.name), CODE))


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+", type=Path, metavar="FILE", help="file to show")
    p.add_argument("--title", required=True, help="title of the page")
    p.add_argument("--output", required=True, type=Path, metavar="HTML")
    args = p.parse_args(argv)
    absent = [str(path) for path in args.files if not (path.exists() or path.is_symlink())]
    if absent:
        raise InputError(f"page: {', '.join(absent)} does not exist; the workflow makes tables, scripts/ and envs/ hold the code")
    parts = [{"name": path.name if len(args.files) > 1 else "", "content": shown(path)} for path in args.files]
    page = pages.environment(Language("en")).get_template("page.html.j2").render(heading=args.title, parts=parts)
    with replacing(args.output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_program(main)
