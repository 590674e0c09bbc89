"""The reader of every CSV table: as the programs wrote it, or as a spreadsheet saved it again, or one line on what is wrong."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from alexbench.files import InputError

_DECIMAL_COMMA = re.compile(r'(?:^|[;\t])"?-?\d+,\d+"?(?=[;\t]|$)', re.MULTILINE)


def read(
    path: Path | str,
    needed: Iterable[str],
    numbers: Iterable[str] = (),
    again: str = "delete it and make it again",
    is_text: Callable[[str], bool] = lambda name: False,
) -> pd.DataFrame:
    """A table with at least the columns `needed`, of which `numbers` hold numbers or nothing; columns that `is_text` are read as text.

    Separators may be commas, semicolons or tabs, decimal commas where commas separate nothing, the encoding UTF-8 or UTF-16 with its mark.
    InputError names the file, what is wrong with it and the way out, `again`.
    """
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"table: {path} does not exist; {again}") from None
    except OSError as error:
        raise InputError(f"table: {path} cannot be read ({error.strerror or error}); mend that, and the same command goes on") from None
    except UnicodeDecodeError as error:
        raise InputError(f"table: {path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8, or {again}") from None
    if not text.strip():
        raise InputError(f"table: {path} is empty; {again}")
    if "\0" in text:
        raise InputError(f"table: {path} is no text; {again}")
    head = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=head.count)
    try:
        rows = [(i, row) for i, row in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), 1) if row]
    except csv.Error as error:
        raise InputError(f"table: {path} is cut off or damaged ({error}); {again}") from None
    names = rows[0][1]
    absent = [name for name in dict.fromkeys((*needed, *numbers)) if name not in names]
    if absent:
        raise InputError(f"table: {path} lacks the columns {', '.join(absent)}; {again}")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise InputError(f"table: {path} has the column {twice[0]!r} more than once; {again}")
    for row_number, row in rows[1:]:
        if len(row) != len(names):
            raise InputError(f"table: {path}: row {row_number} has {len(row)} fields, its header {len(names)}: cut off or edited; {again}")
    decimal = "," if separator != "," and _DECIMAL_COMMA.search(text) else "."
    texts = dict.fromkeys(filter(is_text, names), str)
    # A name may be "NA"; only what is empty, or a measured nan, is missing.
    missing = {"keep_default_na": False, "na_values": ["", "nan"]}
    table = pd.read_csv(io.StringIO(text), sep=separator, decimal=decimal, dtype=texts, low_memory=False, **missing)
    check(table, path, numbers, again)
    return table


def check(table: pd.DataFrame, path: Path | str, numbers: Iterable[str], again: str) -> None:
    """InputError unless the columns `numbers` of a table that was read from `path` are there and hold numbers or nothing."""
    absent = [name for name in numbers if name not in table]
    if absent:
        raise InputError(f"table: {path} lacks the columns {', '.join(absent)}; {again}")
    for name in numbers:
        values = pd.to_numeric(table[name], errors="coerce")
        wrong = table[name][values.isna() & table[name].notna()]
        if len(wrong):
            raise InputError(f"table: {path}: {name} is {wrong.iloc[0]!r} in row {wrong.index[0] + 2}, expected a number; {again}")
