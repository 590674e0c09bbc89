#!/usr/bin/env python3
"""Write a profile for this cluster, profiles/site/config.yaml, from what SLURM reports, and check it with doctor.py.

python scripts/write_profile.py
python scripts/write_profile.py --config my.yaml --output profiles/mine

It chooses the partition, the GPUs and how to request them, time and memory limits, and the account. A comment on each choice gives the
reason and the alternatives. A profile that somebody edited is never overwritten.
"""

import argparse
import getpass
import hashlib
import re
from collections import Counter
from pathlib import Path

import doctor
from alexbench.files import InputError, run_program
from alexbench.workflow import slurm

SHIPPED = Path(__file__).parents[1] / "profiles" / "slurm" / "config.yaml"
MARK = "# Written by make site. Edit it as you like: it is not overwritten then. "
# GPU types that the executor accepts (set_gres_string in its utils).
TAKEN = re.compile(r"[a-zA-Z0-9_.]+")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--config", nargs="*", default=[], metavar="YAML", help="configuration files for the check, as for snakemake --configfile"
    )
    p.add_argument("--output", type=Path, default=Path("profiles/site"), metavar="FOLDER", help="folder of the profile (%(default)s)")
    p.add_argument("--partition", metavar="NAME", help="partition to use (default: the one with the most GPUs)")
    args = p.parse_args(argv)
    path = args.output / "config.yaml"
    if path.exists() and not as_written(path.read_text(encoding="utf-8")):
        raise InputError(f"{path} was edited and stays as it is; move it away, or name another folder with --output")
    try:
        text = profile(SHIPPED.read_text(encoding="utf-8"), slurm.partitions(), args.partition)
    except slurm.NoAnswer as silence:
        raise InputError(f"SLURM does not answer ({silence}); start on a login node, or load SLURM's module") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{MARK}{digest(text)}\n{text}", encoding="utf-8")
    print(path)
    failed = False
    for finding in doctor.cluster(args.output, args.config):
        failed |= finding.level == doctor.FAILURE
        print(f"{finding.level:<8} {finding.check}: {finding.found}" + (f" -> {finding.way_out}" if finding.level != doctor.OK else ""))
    print("mend what failed by hand" if failed else f"snakemake --profile {args.output}")
    return int(failed)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def as_written(text: str) -> bool:
    """Whether a profile is still what this program wrote."""
    first, _, rest = text.partition("\n")
    return first == f"{MARK}{digest(rest)}"


def profile(text: str, partitions: list[slurm.Partition], wanted: str | None = None) -> str:
    """The shipped profile with this cluster's partition, GPUs, limits and account; `InputError` if no partition has a GPU."""
    gpus = Counter()
    for partition in partitions:
        if partition.up:
            gpus[partition.name] += sum(types_in(partition.gres).values()) * partition.nodes
    names = [name for name, count in gpus.most_common() if count]
    if wanted and wanted not in {partition.name for partition in partitions}:
        raise InputError(f"--partition: {wanted} is none of SLURM's; choose from {', '.join(dict.fromkeys(p.name for p in partitions))}")
    if not (wanted or names):
        raise InputError("no partition that is up has a GPU (sinfo -o '%P %a %G'); copy profiles/slurm and say device: cpu there")
    name = wanted or names[0]
    nodes = [partition for partition in partitions if partition.name == name]
    others = f"; others with GPUs: {', '.join(other for other in names if other != name)}" if len(names) > 1 else ""
    text = replaced(text, "    slurm_partition: gpu", f"    slurm_partition: {name}   # {gpus[name]} GPUs, the most of any{others}")

    types = Counter()
    for partition in nodes:
        types.update({kind: count * partition.nodes for kind, count in types_in(partition.gres).items()})
    text = with_gpus(text, name, types)

    limits = [partition.limit_minutes for partition in nodes]
    runtime = 1440 if None in limits else round(max(limits))
    memory = max(partition.memory_mb for partition in nodes)
    text = replaced(
        text,
        "config:\n  device: cuda",
        f"config:\n  device: cuda\n  largest_job:\n    mem_mb: {memory}   # the largest node of {name}\n"
        f"    runtime: {runtime}   # {'no time limit there: a day' if None in limits else f'the time limit of {name}'}, in minutes",
    )
    default = [partition for partition in partitions if partition.default]
    shortest = min((partition.limit_minutes for partition in default if partition.limit_minutes is not None), default=None)
    if shortest is not None and shortest < 60:
        text = replaced(text, "  runtime: 60   # minutes", f"  runtime: {shortest:.0f}   # minutes: the limit of {default[0].name}")
    return with_account(text)


def types_in(gres: str) -> dict[str, int]:
    """GPUs of each type on a node, from sinfo's `gpu:h200:2(S:0-1),gpu:a100_1g.5gb:4`; the type is empty if SLURM knows none."""
    found: Counter[str] = Counter()
    for kind, count in re.findall(r"(?:^|,)gpu:(?:([^,:()]+):)?(\d+)", gres):
        found[kind] += int(count)
    return dict(found)


def with_gpus(text: str, partition: str, types: Counter) -> str:
    """The profile with the GPU request that this cluster accepts: --gpus, gres, or --gpus-per-node for a type that the executor refuses."""
    kind = types.most_common(1)[0][0] if len(types) > 1 else ""
    others = ", ".join(f"{other} ({count})" for other, count in types.most_common() if other != kind)
    named = f"{kind}:" if kind else ""
    if kind and not TAKEN.fullmatch(kind):
        text = replaced(text, "'--signal=TERM@180'", f"'--signal=TERM@180 --gpus-per-node={kind}:1'")
        why = f"the executor refuses the name {kind}: it stands in slurm_extra; others: {others}"
        return replaced(text, "    # gpu: 0\n", f"    gpu: 0   # {why}\n")
    if accepted(partition, f"--gpus={named}1"):
        why = f"the most of them; timings compare only on one model; others: {others}"
        return replaced(text, "    # gpu_model: h100\n", f"    gpu_model: {kind}   # {why}\n") if kind else text
    if accepted(partition, f"--gres=gpu:{named}1"):
        form = f"    gpu: 0   # SLURM refuses --gpus here and takes --gres\n    gres: \"'gpu:{named}1'\"\n"
        return replaced(text, "    # gpu: 0\n    # gres: \"'gpu:1'\"\n", form)
    return text


def accepted(partition: str, request: str) -> bool:
    try:
        slurm.answer("sbatch", "--test-only", f"--partition={partition}", request, "--wrap=true")
        return True
    except slurm.NoAnswer:
        return False


def with_account(text: str) -> str:
    """The profile with the user's default account and QOS, if SLURM keeps accounts."""
    user = f"user={getpass.getuser()}"
    try:
        accounts = slurm.answer("sacctmgr", "--noheader", "--parsable2", "show", "associations", user, "format=account,qos").split()
        default = slurm.answer("sacctmgr", "--noheader", "--parsable2", "show", "user", getpass.getuser(), "format=defaultaccount").split()
    except slurm.NoAnswer:
        return text
    names = list(dict.fromkeys(line.split("|")[0] for line in accounts))
    chosen = default[0] if default else names[0] if names else ""
    if chosen:
        others = ", ".join(name for name in names if name != chosen)
        text = replaced(
            text, "  # slurm_account: my_project", f"  slurm_account: {chosen}   # your default{f'; others: {others}' if others else ''}"
        )
    qos = ", ".join(dict.fromkeys(name for line in accounts for name in line.partition("|")[2].split(",") if name))
    return replaced(text, "    # qos: normal", f"    # qos: {qos.split(', ')[0]}   # yours: {qos}") if qos else text


def replaced(text: str, old: str, new: str) -> str:
    """`text` with its only `old` replaced; InputError otherwise, so that a change of the shipped profile does not go unnoticed."""
    if text.count(old) != 1:
        raise InputError(f"profiles/slurm/config.yaml has {text.count(old)} times {old!r}, not once: git checkout profiles/slurm")
    return text.replace(old, new)


if __name__ == "__main__":
    run_program(main)
