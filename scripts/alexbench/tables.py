"""Read CSV tables, whether a program wrote them or a spreadsheet saved them. One line says what is wrong with a damaged one."""

import codecs
import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from alexbench.files import InputError, raise_refusal


@dataclass(frozen=True)
class Column:
    """What the fields of a column must be. `kind`: str, int, float or bool; `object` accepts anything.

    Numbers lie between `least` and `most`; text is one of `choices`, if any are given. `gaps`: a field may be empty; `optional`: the
    column may be absent.
    """

    kind: type = str
    least: float | None = None
    most: float = math.inf
    choices: Sequence[str] = ()
    gaps: bool = False
    optional: bool = False


_FORMS = {
    # Only ".0" may follow the digits: 50.000 may mean fifty thousand, and 5E+04 was rounded.
    int: (re.compile(r"[-+]?\d+(\.0)?"), "an integer"),
    float: (re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|nan|[-+]?inf"), "a number"),
    bool: (re.compile(r"true|false", re.IGNORECASE), "True or False"),
}
_DECIMAL_COMMA, _DECIMAL_POINT = (re.compile(rf"[-+]?\d*{mark}\d+([eE][-+]?\d+)?") for mark in (",", r"\."))


def read(
    path: Path | str,
    columns: Mapping[str, Column],
    again: str,
    key: Sequence[str] = (),
    is_text: Callable[[str], bool] = lambda name: False,
    what: str = "table",
) -> pd.DataFrame:
    """Read a table with these `columns` and no two rows with the same `key`. It may have more columns; `is_text` says which are text.

    Fields are separated by commas, semicolons or tabs; if not by commas, numbers may have decimal commas. The encoding is UTF-8, or
    UTF-16 with a byte order mark. Empty rows and columns without a name are left out.
    InputError names the file, what is wrong with it, and the way out, `again`. `what` is the message's word for such a file.
    """

    def refused(reason: str) -> InputError:
        return InputError(f"table: {path} {reason}; {again}")

    text = _text(path, again, what)
    separator, rows = _rows(text, lambda reason: refused(f"is not a whole {what} ({reason})"))
    names, rows = [name.strip() for name in rows[0][1]], rows[1:]
    absent = [name for name, column in columns.items() if name not in names and not column.optional]
    if absent:
        raise refused(f"lacks {', '.join(absent)}")
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise refused(f"has the column {twice[0]} more than once")
    for number, row in rows:
        while len(row) > len(names) and not row[-1].strip():
            row.pop()
        if len(row) != len(names):
            raise refused(f"has {len(row)} fields in row {number} and {len(names)} in its header: it was cut off or edited")
    # Spreadsheets write CRLF, and some leave out the last one. A program's own file without its last line end was cut off.
    if "\r" not in text and not text.endswith("\n"):
        raise refused("does not end with a line end, as if it was cut off (add one where its last row is whole)")
    fields = {name: [row[place].strip() for _, row in rows] for place, name in enumerate(names) if name}
    known = {name: column for name, column in columns.items() if name in fields}
    if separator != ",":
        _set_decimal_points(fields, [name for name, column in known.items() if column.kind in (float, object)], refused)
    for name, column in known.items():
        for (number, _), value in zip(rows, fields[name], strict=True):
            wrong = _wrong(value, column)
            if wrong:
                raise refused(f"has {value or 'nothing'!r} as {name} in row {number}; expected {wrong}")
    found = set()
    places = zip(*(fields[name] for name in key), strict=True) if fields.keys() >= set(key) else ()
    for (number, _), place in zip(rows, places, strict=False):
        if place in found:
            raise refused(f"has {' '.join(place)} more than once, in row {number} for the second time")
        found.add(place)
    kinds = {name: str for name in fields if is_text(name) or (name in known and known[name].kind is str)}
    # pandas infers the types of all other columns. "NA" is not a missing value: it may be a name.
    plain = io.StringIO()
    csv.writer(plain).writerows([fields, *zip(*fields.values(), strict=True)])
    plain.seek(0)
    table = pd.read_csv(plain, dtype=kinds, keep_default_na=False, na_values=["", "nan"], low_memory=False, skip_blank_lines=False)
    whole = [name for name, column in known.items() if column.kind is int and not column.gaps]
    return table.astype(dict.fromkeys(whole, int) | {name: float for name, column in known.items() if column.kind is float})


def _text(path: Path | str, again: str, what: str) -> str:
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"table: {path} does not exist; {again}") from None
    except OSError as error:
        raise_refusal(error, "table", path)
        raise
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is no UTF-{16 if wide else 8}"
        raise InputError(f"table: {path} is not a whole {what} ({reason}); save it as UTF-8, or {again}") from None
    if not text.strip() or "\0" in text:
        raise InputError(f"table: {path} is not a whole {what} ({'no text' if text.strip() else 'empty'}); {again}")
    return text


def _rows(text: str, refused: Callable[[str], InputError]) -> tuple[str, list[tuple[int, list[str]]]]:
    """The separator, and the non-empty rows with their row numbers in the file, the header first."""
    # Some spreadsheets name the separator in the first line.
    told = re.match(r'\s*"?sep=(.)"?\s*[\r\n]', text)
    head = re.split(r"[\r\n]", text.strip())[0]
    separator = told[1] if told else max(",;\t", key=head.count)
    try:
        found = enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), 1)
        rows = [(number, row) for number, row in found if any(field.strip() for field in row)][bool(told) :]
    except (csv.Error, ValueError, TypeError) as error:
        raise refused(str(error)) from None
    if not rows:
        raise refused("empty")
    return separator, rows


def _set_decimal_points(fields: dict[str, list[str]], numbers: list[str], refused: Callable[[str], InputError]) -> None:
    """Replace decimal commas in `fields` by points if the columns `numbers` use commas; having both is an error."""
    values = [value for name in numbers for value in fields[name]]
    comma, point = (next(filter(form.fullmatch, values), None) for form in (_DECIMAL_COMMA, _DECIMAL_POINT))
    if comma and point:
        raise refused(f"has both {comma} and {point}: which mark is the decimal one?")
    if comma:
        for name, column in fields.items():
            fields[name] = [value.replace(",", ".") if _DECIMAL_COMMA.fullmatch(value) else value for value in column]


def _wrong(value: str, column: Column) -> str | None:
    """What was expected instead of `value`; None if it is right."""
    if not value or (value == "nan" and column.gaps):
        return None if column.gaps else "something"
    if column.choices and value not in column.choices:
        return f"one of {', '.join(column.choices)}"
    if column.kind not in _FORMS:
        return None
    form, name = _FORMS[column.kind]
    if not form.fullmatch(value):
        return name
    if column.least is None or (math.isfinite(float(value)) and column.least <= float(value) <= column.most):
        return None
    return f"{name} of at least {column.least}" + (f" and at most {column.most}" if math.isfinite(column.most) else "")
