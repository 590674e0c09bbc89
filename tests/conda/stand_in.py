"""Stand-in for the `conda` command, and a channel to install from, for tests where neither is available.

The solver, the installer and the activation scripts are rattler's, as in pixi and conda-rattler-solver; pip is the real one. Made up are
the command line, with only what Snakemake and scripts/prefetch_packages.py use, and the channel: its `python` is a link to the Python
that runs this program, with that version, and its `pip` is that Python's pip.

`install(folder)` makes both: `folder/bin/conda`, `folder/bin/activate` and `folder/channels/conda-forge`.
"""

import argparse
import asyncio
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import rattler
import rattler.exceptions
import rattler.index
import rattler.shell
import yaml

# The oldest version that Snakemake accepts.
VERSION = "24.7.1"
ACTIVATE = 'script=$("{folder}/bin/conda" shell.posix activate "$1") && eval "$script"\n'


def install(folder: Path) -> None:
    """Create the command, its activation script and the channel."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "conda").write_text(f'#!/bin/sh\nSTAND_IN="{folder}" exec "{sys.executable}" -I "{__file__}" "$@"\n', encoding="utf-8")
    (programs / "conda").chmod(0o755)
    (programs / "activate").write_text(ACTIVATE.format(folder=folder), encoding="utf-8")
    make_channel(folder / "channels" / "conda-forge")


def make_channel(folder: Path) -> None:
    """Make a channel of two packages: `python`, which links to this Python as a venv does, and `pip`, with this Python's files."""
    base = Path(sys._base_executable)
    minor = ".".join(platform.python_version_tuple()[:2])
    links = {f"bin/{name}": str(base) for name in ("python", "python3", f"python{minor}")}
    settings = f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {platform.python_version()}\n"
    write_package(folder / str(rattler.Subdir.current()), "python", platform.python_version(), {"pyvenv.cfg": settings.encode()}, links)
    pip = importlib.metadata.distribution("pip")
    content = {f"site-packages/{file}": file.read_binary() for file in pip.files if ".." not in file.parts and file.suffix != ".pyc"}
    write_package(folder / "noarch", "pip", pip.version, content, {}, depends=["python >=3.9"], noarch="python")
    asyncio.run(rattler.index.index_fs(folder))


def write_package(folder: Path, name: str, version: str, files: dict[str, bytes], links: dict[str, str], **index) -> None:
    """Write a conda package (.tar.bz2): its files and symbolic links, info/index.json and info/paths.json."""
    paths = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(content).hexdigest(), "size_in_bytes": len(content)}
        for path, content in files.items()
    ] + [{"_path": path, "path_type": "softlink"} for path in links]
    about = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": [], "subdir": folder.name} | index
    info = {"index.json": about, "paths.json": {"paths": paths, "paths_version": 1}}
    folder.mkdir(parents=True)
    with tarfile.open(folder / f"{name}-{version}-0.tar.bz2", "w:bz2") as archive:
        for path, content in [*((f"info/{path}", json.dumps(value).encode()) for path, value in info.items()), *files.items()]:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for path, target in links.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)


class PackageCache:
    """Packages that were fetched before, as a source of packages: all that conda has with CONDA_OFFLINE."""

    def __init__(self, folder: Path):
        self.records = [self.record(path) for path in folder.glob("*/info/repodata_record.json")]

    @staticmethod
    def record(path: Path) -> rattler.RepoDataRecord:
        kept = json.loads(path.read_text(encoding="utf-8"))
        package = rattler.PackageRecord.from_index_json(path.with_name("index.json"), kept["size"], kept["sha256"], kept["md5"])
        return rattler.RepoDataRecord(package, kept["fn"], kept["url"], kept["channel"])

    async def fetch_package_records(self, subdir: rattler.Subdir, name: rattler.PackageName) -> list[rattler.RepoDataRecord]:
        return [record for record in self.records if record.name == name and record.subdir == str(subdir)]

    def package_names(self, subdir: rattler.Subdir) -> list[str]:
        return [record.name.normalized for record in self.records if record.subdir == str(subdir)]


async def create(prefix: Path, channels: list[str], specs: list[str]) -> None:
    """Solve for `specs` and install them through the package cache."""
    cache = Path(os.environ.get("CONDA_PKGS_DIRS") or Path.home() / ".conda" / "pkgs")
    cache.mkdir(parents=True, exist_ok=True)
    if os.environ.get("CONDA_OFFLINE"):
        sources = [PackageCache(cache)]
    else:
        alias = rattler.ChannelConfig(os.environ["CONDA_CHANNEL_ALIAS"].rstrip("/") + "/")
        sources = [rattler.Channel(name, alias) for name in channels]
    subdirs = [rattler.Subdir.current(), rattler.Subdir("noarch")]
    records = await rattler.solve(sources, specs, rattler.Gateway(cache / "cache"), subdirs)
    await rattler.install(records, prefix, cache, show_progress=False)
    for record in records:
        # As conda does; `record.to_json()` leaves out where the package came from.
        kept = json.loads(record.to_json()) | {"fn": record.file_name, "url": record.url, "channel": record.channel}
        folder = f"{record.name.normalized}-{record.version}-{record.build}"
        (cache / folder / "info" / "repodata_record.json").write_text(json.dumps(kept), encoding="utf-8")


async def create_from_file(prefix: Path, file: Path) -> None:
    """Install an environment file: conda's packages, then pip's, with the command that conda itself uses."""
    environment = yaml.safe_load(file.read_text(encoding="utf-8"))
    specs = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    await create(prefix, environment["channels"], specs)
    wheels = [line for entry in environment["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=file.parent, prefix="condaenv.", suffix=".requirements.txt"
    ) as requirements:
        requirements.write("\n".join(wheels))
        requirements.flush()
        command = [prefix / "bin" / "python", "-m", "pip", "install", "-U", "-r", requirements.name, "--exists-action=b"]
        subprocess.run(command, cwd=file.parent, check=True)


def activation(prefix: str) -> str:
    """The activation script for bash."""
    variables = rattler.shell.ActivationVariables(os.environ.get("CONDA_PREFIX"))
    return rattler.shell.activate(Path(prefix), variables, rattler.shell.Shell.bash).script


def main(arguments: list[str]) -> int:
    match arguments:
        case ["--version"]:
            print("conda", VERSION)
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": os.environ["STAND_IN"], "platform": str(rattler.Subdir.current())}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["shell.posix", "activate", prefix]:
            print(activation(prefix))
        case ["clean", "-y", "--tarballs"]:
            pass  # rattler keeps no tarballs
        case ["env", "create", *options]:
            p = argparse.ArgumentParser()
            p.add_argument("--quiet", action="store_true")
            p.add_argument("--no-default-packages", action="store_true")
            p.add_argument("--file", type=Path, required=True)
            p.add_argument("--prefix", type=Path, required=True)
            args = p.parse_args(options)
            asyncio.run(create_from_file(args.prefix, args.file))
        case ["create", *options]:
            p = argparse.ArgumentParser()
            p.add_argument("--quiet", action="store_true")
            p.add_argument("--yes", action="store_true")
            p.add_argument("--override-channels", action="store_true", required=True)
            p.add_argument("--channel", action="append", required=True)
            p.add_argument("--prefix", type=Path, required=True)
            p.add_argument("specs", nargs="+")
            args = p.parse_args(options)
            asyncio.run(create(args.prefix, args.channel, args.specs))
        case _:
            raise SystemExit(f"the stand-in for conda does not know: {' '.join(arguments)}")
    return 0


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except (rattler.exceptions.SolverError, rattler.exceptions.GatewayError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # rattler's threads may keep the interpreter from exiting.
    os._exit(status)
