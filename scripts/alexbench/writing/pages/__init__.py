"""Self-contained HTML pages from templates, in the requested language."""

import base64
import html
import json
import re
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from alexbench.files import InputError
from alexbench.writing.language import Language

FOLDER = Path(__file__).parent
TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def environment(language: Language) -> Environment:
    """Jinja environment with the language's messages and number format; an undefined name is an error."""
    env = Environment(loader=FileSystemLoader(FOLDER), extensions=["jinja2.ext.i18n"], autoescape=True, undefined=StrictUndefined)
    env.policies["ext.i18n.trimmed"] = True
    env.install_gettext_translations(language.translations, newstyle=True)
    env.globals |= {"language": language.code, "number": language.number, "listed": language.listed}
    return env


def text(path: Path) -> str:
    """A text file's content; InputError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"page: {path} is not UTF-8 (byte {error.start}); save it as UTF-8, or make it again") from None


def embedded(path: Path) -> str:
    """A PNG or SVG file as a data URI; InputError if it does not exist."""
    if not path.exists():
        raise InputError(f"page: {path} does not exist; the workflow makes it, with the program plot_{path.stem}.py")
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def inline_json(content: object) -> Markup:
    """JSON that is safe inside a <script>: it cannot contain a closing tag."""
    return Markup(json.dumps(content).replace("<", "\\u003c"))


def from_markdown(text: str) -> Markup:
    """Convert CommonMark to HTML, with tables that `sort.js` can sort; HTML in the text is escaped."""
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    rendered = rendered.replace("<table>", '<figure class="table"><table class="sortable">').replace("</table>", "</table></figure>")
    return Markup(re.sub(r"<th\b([^>]*)>(.*?)</th>", r'<th scope="col"\1><button type="button">\2</button></th>', rendered))


def from_table(table: pd.DataFrame) -> Markup:
    """A table as HTML that `sort.js` can sort."""
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table]

    def cell(value: object, number: bool) -> str:
        if pd.isna(value):
            return "<td></td>"
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        return f'<td class="number" data-value="{value}">{shown}</td>' if number else f"<td>{html.escape(shown)}</td>"

    head = "".join(f'<th scope="col"><button type="button">{html.escape(str(column))}</button></th>' for column in table)
    rows = ("".join(map(cell, row, numeric)) for row in table.itertuples(index=False))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return Markup(f'<figure class="table"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></figure>')
