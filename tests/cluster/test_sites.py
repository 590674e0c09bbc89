"""Clusters differ: what the doctor says about a profile there, and the profile that `make site` writes."""

import shutil
from pathlib import Path

import pytest
import slurm
import yaml
from on_cluster import bring_up

import doctor
import write_profile
from alexbench.files import InputError
from conftest import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

MIG = "a100-sxm4-40gb_1g.5gb"
PARTITIONS = "PartitionName=short Default=YES MaxTime=02:00:00\nPartitionName=mig MaxTime=04:00:00"
SMALL = {
    "variants": ["alexnet_mod"],
    "seeds": [1],
    "data": {"dataset": "digits"},
    "largest_job": {"mem_mb": 64000, "runtime": 240},
}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    yield from bring_up(gpus=(MIG, MIG, "h200"), partitions=PARTITIONS)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working directory with a small configuration and the shipped profile, set for this cluster's partitions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    change(tmp_path, "slurm_partition: gpu", "slurm_partition: mig")
    return tmp_path


def change(place: Path, old: str, new: str) -> None:
    path = place / "profiles/slurm/config.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def findings(profile: str | Path = "profiles/slurm") -> list[doctor.Finding]:
    return list(doctor.cluster(Path(profile), ["mine.yaml"]))


def test_every_rule_that_asks_for_a_gpu_is_asked_about(place):
    found = findings()
    assert {finding.check for finding in found} == {f"job of {rule}" for rule in ("train", "time_steps", "measure_parity", "train_as_long")}
    assert all(finding.level == doctor.OK and "-p mig" in finding.found and "--signal=TERM@180" in finding.found for finding in found), (
        found
    )


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("    mem_mb: 9000000\n", "mem_mb"),
        ("    runtime: 20000\n", "asks for 20000 minutes, partition mig allows 240: it would wait for ever -> set runtime"),
        ("set-threads:\n  train: 64\n", "-> set "),
        ("    slurm_extra: \"'--mem=9000'\"\n", "slurm_extra may not hold memory, which Snakemake's executor sets itself: --mem=9000"),
        ("    slurm_extra: \"'--reservation=nobodys'\"\n", "Requested reservation is invalid -> set slurm_extra"),
        (f"    gres: \"'gpu:{MIG}:1'\"\n", f"gpu: 0 and slurm_extra: \"'--gpus-per-node={MIG}:1'\""),
        (f"    gpu_model: {MIG}\n", f"gpu: 0 and slurm_extra: \"'--gpus-per-node={MIG}:1'\""),
        ("    slurm_partition: mig,short\n", None),
        (f"    gpu: 0\n    slurm_extra: \"'--gpus-per-node={MIG}:1'\"\n", None),
        ("    mem_mb: 0\n", None),
    ],
    ids=lambda value: (value or "fine").strip().partition("\n")[0][:40],
)
def test_what_a_site_asks_for(place, new, says):
    text = (place / "profiles/slurm/config.yaml").read_text(encoding="utf-8")
    key = new.split(":")[0]
    lines = [line for line in text.splitlines(True) if not line.startswith(f"{key}:")]
    place_of = lines.index("  train: &gpu\n") + 1 if new.startswith(" ") else 0
    (place / "profiles/slurm/config.yaml").write_text("".join([*lines[:place_of], new, *lines[place_of:]]), encoding="utf-8")
    found = next(finding for finding in findings() if finding.check.startswith("job of train"))
    if says is None:
        assert found.level == doctor.OK, found
    else:
        assert found.level == doctor.FAILURE and says in f"{found.found} -> {found.way_out}", found
        assert "profiles/slurm/config.yaml" in found.way_out


def test_a_retry_that_would_wait_for_ever_is_named(place):
    change(place, "  train: &gpu\n", "  train: &gpu\n    runtime: 100 * attempt\n")
    found = findings()[0]
    assert found.check == "job of train, attempt 3" and "asks for 300 minutes, partition mig allows 240" in found.found


def test_other_forms_of_a_profile(place):
    path = place / "profiles/slurm/config.yaml"
    assert all(finding.level == doctor.OK for finding in findings(path)), "the profile's file itself"
    other = place / "profiles" / "other"
    other.mkdir()
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["set-resources"] = [f"{rule}:{key}={value}" for rule, keys in settings["set-resources"].items() for key, value in keys.items()]
    (other / "profile.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert all(finding.level == doctor.OK for finding in findings(other)), "profile.yaml, and resources as a list"
    (other / "profile.yaml").write_text("jobs: 2\n", encoding="utf-8")
    assert "has no executor: slurm" in findings(other)[0].found
    assert "has no profile.yaml or config.yaml" in findings("nowhere")[0].found


def takes_gpu_jobs() -> bool:
    try:
        slurm.command("sbatch", "--test-only", "--partition=mig", f"--gpus-per-node={MIG}:1", "--wrap=true")
    except slurm.SlurmError:
        return False
    return True


def test_a_controller_that_is_down(place, cluster):
    cluster.stop_controller()
    try:
        (found,) = findings()
    finally:
        cluster.start_controller()
    assert found.level == doctor.FAILURE and "does not answer" in found.found
    # The next test needs the GPUs, of which the node tells a new controller only after a while.
    assert slurm.wait_until(takes_gpu_jobs, seconds=60)


def test_make_site_writes_a_profile_that_the_doctor_passes(place, capsys):
    assert write_profile.main(["--config", "mine.yaml"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("profiles/site/config.yaml\n") and said.endswith("snakemake --profile profiles/site\n")
    path = place / "profiles/site/config.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    train = settings["set-resources"]["train"]
    assert train == settings["set-resources"]["measure_parity"]
    assert train["gpu"] == 0 and train["slurm_extra"] == f"'--signal=TERM@180 --gpus-per-node={MIG}:1'"
    assert settings["config"]["largest_job"] == {"mem_mb": 64000, "runtime": 240 if train["slurm_partition"] == "mig" else 120}
    # A profile that nobody edited may be overwritten; an edited one stays.
    assert write_profile.main(["--config", "mine.yaml", "--partition", "short"]) == 0
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["config"]["largest_job"]["runtime"] == 120
    path.write_text(path.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    with pytest.raises(InputError, match="was edited and stays as it is"):
        write_profile.main(["--config", "mine.yaml"])
    assert path.read_text(encoding="utf-8").endswith("# mine\n")
