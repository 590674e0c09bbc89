"""Files that are whole or absent, and how a program ends."""

import errno
import os
import subprocess
import sys

import pytest

from alexbench.files import InputError, refusal, replacing, run_program, write_json
from conftest import ROOT


def test_a_program_ends_with_its_status():
    with pytest.raises(SystemExit) as ended:
        run_program(lambda: 1)
    assert ended.value.code == 1


def test_a_mistake_of_the_user_is_told_in_one_line():
    def main() -> int:
        raise InputError("config: unknown variant 'alexnett'; choose from alexnet_mod, alexnet")

    with pytest.raises(SystemExit) as ended:
        run_program(main)
    # Python prints a text that a program exits with, and makes the status 1.
    assert ended.value.code == "config: unknown variant 'alexnett'; choose from alexnet_mod, alexnet"


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_program(lambda: 1 // 0)


WRITER = """
import sys, time
from alexbench.files import replacing
with replacing(sys.argv[1]) as path:
    path.touch()
    print("in", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_left_is_deleted_and_a_living_ones_is_not(tmp_path):
    path = tmp_path / "a[1].json"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, env=environment)
    assert writer.stdout.readline() == b"in\n" and len(list(tmp_path.rglob("*"))) == 2
    write_json(path, {})
    assert len(list(tmp_path.iterdir())) == 2
    writer.kill()
    writer.wait()
    write_json(path, {})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_what_the_machine_refuses_is_told_in_one_line(tmp_path, number):
    with pytest.raises(InputError, match=rf"a\.json cannot be written \({os.strerror(number)}\); mend that"):
        with replacing(tmp_path / "a.json"):
            raise OSError(number, os.strerror(number))
    with pytest.raises(OSError, match="Is a directory"):
        with replacing(tmp_path / "a.json"):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_can_be_written_is_not_refused(tmp_path):
    assert refusal(tmp_path / "not/there/yet") is None and not list(tmp_path.iterdir())
