"""The languages of the study's page and figures: English in the sources, others by catalogue, numbers the way each writes them."""

import io
from pathlib import Path

from babel import Locale, numbers
from babel.messages import mofile, pofile
from babel.support import NullTranslations, Translations

LANGUAGES = ("en", "es")
CATALOGUES = Path(__file__).parent / "pages"
MISSING = "–"


class Language:
    """A language by its code, "en" or "es": called with an English message it returns its own, with `%(name)s` filled in (`%%` is a %).

    Numbers are formatted by the locale's rules; NaN and None, what was not measured, as a dash.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        self.locale = Locale.parse(code)
        self.translations = NullTranslations() if code == "en" else _read(CATALOGUES / f"{code}.po")

    def __call__(self, message: str, **values: object) -> str:
        return self.translations.gettext(message) % values

    def number(self, value: float | None, digits: int = 0, sign: bool = False) -> str:
        if value is None or value != value:
            return MISSING
        pattern = "#,##0" + ("." + "0" * digits if digits else "")
        return numbers.format_decimal(value, f"{'+' if sign else ''}{pattern};−{pattern}", self.locale)

    def listed(self, items: list[str]) -> str:
        """a, b and c"""
        _, (*first, last) = self, items
        return _("%(first)s and %(last)s", first=", ".join(first), last=last) if first else last

    def either(self, items: list[str]) -> str:
        """a, b or c"""
        _, (*first, last) = self, items
        return _("%(first)s or %(last)s", first=", ".join(first), last=last) if first else last


def _read(path: Path) -> Translations:
    with path.open("rb") as file:
        catalogue = pofile.read_po(file)
    compiled = io.BytesIO()
    mofile.write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)
