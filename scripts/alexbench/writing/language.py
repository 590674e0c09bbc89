"""Languages of the pages and figures: English in the sources, others from catalogues, numbers in each language's format."""

import io
from pathlib import Path

from babel import Locale, numbers
from babel.messages import mofile, pofile
from babel.support import NullTranslations, Translations

LANGUAGES = ("en", "es")
CATALOGUES = Path(__file__).parent / "pages"
MISSING = "–"


class Language:
    """A language, by its code "en" or "es". Calling it with an English message returns the translation.

    `%(name)s` in the message is filled in from the keyword arguments; `%%` is a percent sign. Numbers follow the locale's rules; NaN and
    None, for what was not measured, become a dash.
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
        """Join items as "a, b and c"."""
        _, (*first, last) = self, items
        return _("%(first)s and %(last)s", first=", ".join(first), last=last) if first else last

    def either(self, items: list[str]) -> str:
        """Join items as "a, b or c"."""
        _, (*first, last) = self, items
        return _("%(first)s or %(last)s", first=", ".join(first), last=last) if first else last


def _read(path: Path) -> Translations:
    with path.open("rb") as file:
        catalogue = pofile.read_po(file)
    compiled = io.BytesIO()
    mofile.write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)
