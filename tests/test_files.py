"""Files are complete or absent; and how a program ends."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from alexbench.files import InputError, refusal, replacing, run_program, write_json
from conftest import AS_ANYBODY, ROOT, run_script, write_run


def test_a_program_ends_with_its_status():
    with pytest.raises(SystemExit) as ended:
        run_program(lambda: 1)
    assert ended.value.code == 1


def test_a_mistake_of_the_user_is_told_in_one_line():
    def main() -> int:
        raise InputError("config: unknown variant 'alexnett'; choose from alexnet_mod, alexnet")

    with pytest.raises(SystemExit) as ended:
        run_program(main)
    # Python prints the text that a program exits with, and makes the status 1.
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
    # An error about another file, which the block reads, keeps its own message.
    with pytest.raises(OSError, match=r"Is a directory: 'elsewhere'"):
        with replacing(tmp_path / "a.json"):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), "elsewhere")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_can_be_written_is_not_refused(tmp_path):
    assert refusal(tmp_path / "not/there/yet") is None and not list(tmp_path.iterdir())


def test_a_link_stays_one_and_a_device_is_written_to_and_never_replaced(tmp_path):
    write_json(tmp_path / "a.json", {})
    (tmp_path / "link.json").symlink_to("a.json")
    (tmp_path / "nowhere.json").symlink_to("b.json")
    for name in ("link.json", "nowhere.json"):
        write_json(tmp_path / name, {"a": 1})
        assert (tmp_path / name).is_symlink() and '"a": 1' in (tmp_path / name).resolve().read_text(encoding="utf-8")
    # A null device of our own: a mistake must not cost the machine its /dev/null.
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        device = Path("/dev/null")  # then nobody here can replace it either
    write_json(device, {})
    assert stat.S_ISCHR(device.stat().st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    write_json(pipe, {})
    assert reader.communicate(timeout=30)[0] == b"{}\n" and stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_is_written_to_stdout_by_its_path_comes_before_what_is_printed(tmp_path):
    done = run_script("prepare_data.py", "digits", "--output", "/dev/stdout", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("PK") and Path("/dev/stdout").is_symlink()


@pytest.mark.parametrize("length", [1, 200, 255])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, length):
    write_json(tmp_path / ("a" * length), {})
    assert [path.name for path in tmp_path.iterdir()] == ["a" * length]


READ = """
import sys, traceback
from pathlib import Path
from alexbench.files import run_program
for line in sys.stdin:
    reader, path = line.rstrip("\\n").split("\\t")
    def main():
        exec(reader)
    try:
        run_program(main)
    except SystemExit as ended:
        print(ended.code)
    except Exception:
        print("Traceback", traceback.format_exc().replace("\\n", " "))
"""


def told(tmp_path: Path, asked: list[tuple[str, str]]) -> list[str]:
    """For each statement and path: the line in which a program of that one statement ends. All run in one process, to import only once."""
    done = subprocess.run(
        [*AS_ANYBODY, sys.executable, "-c", READ],
        input="".join(f"{statement}\t{path}\n" for statement, path in asked),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(asked), done.stdout + done.stderr[-2000:]
    return lines


UNWRITABLE = {
    "": ". cannot be written (Is a directory); name a file",
    "folder": "folder cannot be written (Is a directory); name a file",
    "file/a.npz": "file/a.npz cannot be written (Not a directory); part of this path is a file and no folder",
    "shut/a.npz": "shut/a.npz cannot be written (Permission denied",
    "shut/in/a.npz": "shut/in/a.npz cannot be written (Permission denied",
    "a" * 256: "cannot be written (File name too long); give it a shorter name",
    "circle": "circle cannot be written (Too many levels of symbolic links)",
    "/proc/a.npz": "/proc/a.npz cannot be written (",
    "/dev/full": "/dev/full cannot be written (No space left on device); mend that",
}


def test_an_output_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "shut").mkdir(mode=0o500)
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    before = sorted(tmp_path.rglob("*"))
    lines = told(tmp_path, [("from alexbench.files import write_json; write_json(path, {})", path) for path in UNWRITABLE])
    for said, line in zip(UNWRITABLE.values(), lines, strict=True):
        assert said in line and "Traceback" not in line, line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_without_npz_is_kept(tmp_path):
    assert run_script("prepare_data.py", "digits", "--output", "mine", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.sha256"]
    refused = run_script("plot_samples.py", "--data", "mine", "--output", "samples", cwd=tmp_path)
    assert refused.returncode == 2 and "'samples' does not end in .png" in refused.stderr


UNREADABLE = {
    "missing": "No such file or directory",
    "folder": "Is a directory",
    "shut": "Permission denied",
    "file/below": "Not a directory",
    "n" * 300: "File name too long",
    "circle": "Too many levels of symbolic links",
}
READERS = {
    "datasets": "from alexbench.experiment import datasets; datasets.load(path)",
    "archive": "from alexbench.experiment.datasets import cifar10; cifar10.read(path)",
    "weights": "from alexbench.experiment import weights; weights.read(path)",
    "checkpoint": "from alexbench.training import checkpoint; checkpoint.load(Path(path), {}, print)",
    "configuration": "from alexbench.workflow import configuration; configuration.load(path)",
    "source": "import prepare_weights; prepare_weights.read_source(Path(path))",
    "parity": "import compare_parity; compare_parity.read(Path(path))",
    "page": "import write_page; write_page.main([path, '--title=T', '--output=page.html'])",
    "budget": "import train; train.budget_seconds(Path(path), {})",
    "card": "import describe_model; describe_model.main(['--metrics', path, '--table=t', '--model=m', '--output=o'])",
}


def test_a_file_that_cannot_be_read_is_told_with_the_true_cause_by_every_reader(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("shut", "file"):
        (tmp_path / name).write_bytes(b"whole")
    (tmp_path / "shut").chmod(0)
    (tmp_path / "circle").symlink_to("circle")
    asked = [(name, path) for name in READERS for path in UNREADABLE]
    lines = told(tmp_path, [(READERS[name], path) for name, path in asked])
    for (name, path), line in zip(asked, lines, strict=True):
        if (name, path) == ("archive", "folder") or (name == "checkpoint" and line == "None"):
            continue  # a folder may be an archive, if one that lacks its files; without a checkpoint there is none to resume
        also = {"missing": "does not exist", "file/below": "does not exist", "folder": "but a folder"}
        assert path in line and any(words in line for words in (UNREADABLE[path], also.get(path, UNREADABLE[path]))), (name, line)
        assert not any(word in line for word in ("damaged", "delete", "Traceback", "not a whole", "Errno")), (name, line)
    assert (tmp_path / "shut").read_bytes() == b"whole" if not os.geteuid() else (tmp_path / "shut").exists()


@pytest.mark.parametrize("name", ["metrics.json", "history.csv", "predictions.npz"])
def test_a_run_is_not_thrown_away_since_its_file_may_not_be_read(tmp_path, name):
    folder = tmp_path / "runs/pytorch/alexnet_mod/seed1"
    write_run(folder)
    (folder / name).chmod(0)
    collect = ("--results", tmp_path, "--frameworks", "pytorch", "--variants", "alexnet_mod", "--seeds", "1")
    done = run_script("collect.py", *collect)
    if name == "history.csv":  # no table uses it
        assert done.returncode == 0, done.stderr
        (folder / name).chmod(0o644)
        (folder / name).rename(folder / "away")
        (folder / name).mkdir()
        done = run_script("plot_learning.py", "--runs", tmp_path / "runs.csv", "--output", tmp_path / "a.png")
    assert done.returncode == 1 and f"{folder / name} cannot be read (" in done.stderr, done.stderr
    assert "delete" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert (folder / name).exists()


@pytest.mark.parametrize("coding", ["latin-1", "ascii"])
def test_a_locale_without_our_dashes_does_not_end_a_program(tmp_path, coding):
    write_run(tmp_path / "runs/pytorch/alexnet_mod/seed1", status="diverged", accuracy=None, loss=None)
    collect = ("--results", tmp_path, "--frameworks", "pytorch", "--variants", "alexnet_mod", "--seeds", "1")
    surroundings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": coding}
    done = run_script("collect.py", *collect, **surroundings)
    assert done.returncode == 0 and r"\u2013" in done.stdout, done.stderr
    assert "–" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_a_reader_that_has_read_enough_ends_a_program_without_a_word(tmp_path):
    command = f"{sys.executable} {ROOT / 'scripts/prepare_data.py'} digits --output {tmp_path / 'a.npz'}; echo $? >&2"
    done = subprocess.run(["bash", "-c", f"({command}) | true"], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.stderr in ("141\n", "0\n")  # depends on which process was first


def test_a_full_disk_behind_stdout_is_told(tmp_path):
    command = f"{sys.executable} {ROOT / 'scripts/prepare_data.py'} digits --output {tmp_path / 'a.npz'} > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 1 and done.stderr.startswith("prepare_data.py: No space left on device"), done.stderr
