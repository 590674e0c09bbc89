"""A process that is alone in a folder clears what a killed one left there; one that is not is told about the others."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from alexbench.workflow import presence
from conftest import ROOT

# Joins, says who else is there, and stays until its input ends; it has a child that may outlive it.
MEMBER = """\
import subprocess, sys
from pathlib import Path
from alexbench.workflow import presence
print(", ".join(presence.join(Path("register"), Path("locks"))) or "alone", flush=True)
child = subprocess.Popen(["sleep", "30"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
"""


class Member(subprocess.Popen):
    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
        super().__init__(
            [sys.executable, "-c", MEMBER],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.others = self.stdout.readline().strip()
        self.child = int(self.stdout.readline())

    def leave(self) -> None:
        self.communicate()


def left_behind(folder: Path) -> Path:
    (folder / "locks").mkdir()
    (folder / "locks/0.output.lock").write_text("results/table.md\n", encoding="utf-8")
    return folder / "locks/0.output.lock"


def test_one_that_was_killed_is_not_at_work_though_its_child_lives_on(tmp_path):
    killed = Member(tmp_path)
    lock = left_behind(tmp_path)
    killed.kill()
    killed.wait()
    try:
        os.kill(killed.child, 0)
        after = Member(tmp_path)
        assert after.others == "alone" and not lock.exists()
        after.leave()
    finally:
        os.kill(killed.child, signal.SIGKILL)


def test_while_one_is_at_work_another_clears_nothing_and_is_told_of_it(tmp_path):
    first = Member(tmp_path)
    lock = left_behind(tmp_path)
    second = Member(tmp_path)
    assert second.others == f"process {first.pid} on {socket.gethostname()}"
    # Not even after the first one, which found nobody, has left.
    first.leave()
    third = Member(tmp_path)
    assert third.others == f"process {second.pid} on {socket.gethostname()}" and lock.exists()
    second.leave()
    third.leave()


def test_what_another_machine_may_be_at_is_left_alone(tmp_path):
    lock = left_behind(tmp_path)
    (tmp_path / "register").write_text("7 login2\n", encoding="utf-8")
    member = Member(tmp_path)
    member.leave()
    assert lock.exists()
    lock.unlink()
    Member(tmp_path).leave()
    assert "login2" not in (tmp_path / "register").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_changes_nothing(tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    lock = left_behind(tmp_path)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert presence.join(tmp_path / "register", tmp_path / "locks") == [] and lock.exists()


def test_a_register_cut_short_is_no_obstacle(tmp_path):
    lock = left_behind(tmp_path)
    (tmp_path / "register").write_text(f"7 {socket.gethostname()}\n12", encoding="utf-8")
    Member(tmp_path).leave()
    assert not lock.exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    (tmp_path / "file").touch()
    assert presence.join(tmp_path / "file" / "register", tmp_path / "locks") == []
