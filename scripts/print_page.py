#!/usr/bin/env python3
"""Print an HTML page to a PDF on A4, with page numbers and bookmarks.

Uses WeasyPrint, which needs the system library Pango.

python scripts/print_page.py results/article.html --output results/article.pdf
"""

import argparse
from pathlib import Path

from alexbench.files import InputError, replacing, run_program

# Fonts that matplotlib ships, so that a page looks the same on every machine; style.css calls the first three "Article".
FACES = {
    "STIXGeneral.ttf": ("Article", "normal", "normal"),
    "STIXGeneralBol.ttf": ("Article", "bold", "normal"),
    "STIXGeneralItalic.ttf": ("Article", "normal", "italic"),
    "DejaVuSans.ttf": ("DejaVu Sans", "normal", "normal"),
    "DejaVuSans-Bold.ttf": ("DejaVu Sans", "bold", "normal"),
}


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("page", type=Path, metavar="HTML", help="page to print, made by write_article.py")
    p.add_argument("--output", required=True, type=Path, metavar="PDF")
    args = p.parse_args(argv)
    import matplotlib  # after alexbench, which keeps it from using a notebook's backend

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    try:
        from weasyprint import CSS, HTML
        from weasyprint.text.fonts import FontConfiguration
    except OSError as error:
        raise InputError(
            f"print: WeasyPrint finds no Pango ({str(error).splitlines()[0]}); install it (Debian: apt-get install libpango-1.0-0 "
            f"libpangoft2-1.0-0, macOS: brew install pango, conda: pango), or print {args.page} from a browser"
        ) from None
    fonts = FontConfiguration()
    faces = "".join(
        f'@font-face {{ font-family: "{family}"; font-weight: {weight}; font-style: {slant}; src: url("{(folder / file).as_uri()}"); }}'
        for file, (family, weight, slant) in FACES.items()
    )
    css = CSS(string=faces, font_config=fonts)
    with replacing(args.output) as temporary:
        HTML(args.page).write_pdf(temporary, stylesheets=[css], font_config=fonts)
    return 0


if __name__ == "__main__":
    run_program(main)
