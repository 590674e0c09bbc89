"""Hashes of code, which decide what is made again."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from alexbench import backends
from alexbench.experiment import variants
from alexbench.workflow import fingerprint
from conftest import ROOT

HASHES = """
import json, locale, sys
from pathlib import Path
from alexbench import backends
from alexbench.experiment import variants
from alexbench.workflow import fingerprint
programs = sorted(Path(sys.argv[1]).glob("*.py"))
found = {f"{path.name} {name}": fingerprint.of_program(path, name) for path in programs for name in (None, *backends.FRAMEWORKS)}
found |= {name: fingerprint.of_variant(variants.get(name)) for name in variants.VARIANTS}
print(json.dumps([locale.getpreferredencoding(False), found]))
"""


def here() -> dict:
    programs = sorted((ROOT / "scripts").glob("*.py"))
    found = {f"{path.name} {name}": fingerprint.of_program(path, name) for path in programs for name in (None, *backends.FRAMEWORKS)}
    return found | {name: fingerprint.of_variant(variants.get(name)) for name in variants.VARIANTS}


@pytest.mark.parametrize(("locale", "encoding"), [("C", "ANSI_X3.4-1968"), ("en_US", "ISO-8859-1")])
def test_a_locale_does_not_change_the_hashes_of_code(locale, encoding, tmp_path):
    """Otherwise a colleague, or cron, would plan every job again."""
    surroundings = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT / "scripts")}
    if locale != "C":
        command = ["localedef", "-i", locale, "-f", encoding, str(tmp_path / locale)]
        if not shutil.which("localedef") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"no locale {locale} of {encoding} can be made here")
        surroundings["LOCPATH"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", HASHES, str(ROOT / "scripts")], env=os.environ | surroundings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [encoding, here()]


def test_what_only_people_read_is_no_part_of_a_programs_hash():
    def program(about: str, default: int, told: str) -> str:
        return fingerprint.of_source(f'"""{about}"""\n\np.add_argument("--epochs", default={default}, help="{told}")  # {about}\n')

    assert program("one", 15, "one") == program("other", 15, "other") != program("one", 16, "one")


def test_what_a_training_does_not_depend_on_is_named_as_it_is():
    """Otherwise a renamed module would count from then on, and each change in it train every run again."""
    assert all((fingerprint.LIBRARY / f"{name}.py").is_file() for name in fingerprint.BESIDES)
