"""A real one-node SLURM on loopback, for tests: munge, slurmctld and slurmd from Debian's packages, without systemd.

python tests/cluster/slurm.py up        # prints the folder that it lives in; with --accounting, a job must name a known account
python tests/cluster/slurm.py status
python tests/cluster/slurm.py down

In Python: `with Cluster() as cluster: ...`; inside the block, sbatch, squeue and the others find it. Needs root. Starts in half a second,
or in ten seconds with accounting, which also starts slurmdbd and a MariaDB of its own.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = "slurmctld slurmd slurm-client munge"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol")
# Also needed with accounting. Not mariadb-server, which would start a service.
ACCOUNTING_PACKAGES = "slurmdbd mariadb-server-core mariadb-client-core"
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr", "sacct")
# In the order in which they start; they stop in reverse. The accounting daemons run only with accounting.
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
ACCOUNTING_DAEMONS = ("mariadbd", "slurmdbd")
# The only account that a cluster with accounting accepts.
ACCOUNT = "known"
FOLDERS = ("etc", "state", "spool", "log", "run", "database")
# Marks a cluster's folder; without this file, nothing in the folder is deleted.
MARK = "this-is-a-test-cluster"

# Where SLURM's commands look. A link here instead of SLURM_CONF, because Snakemake's executor drops all SLURM_* variables inside a job.
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
SAVED_CONF = SYSTEM_CONF.with_name("slurm.conf.saved-by-tests")

SLURM_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/run/munge.socket

StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log

# No cgroups: they are not to be had in a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
{accounting}
ReturnToService=2
KillWait=5
MinJobAge=300

SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=2,sched_min_interval=0

# The node may be said to be larger than this machine is.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres={gres} State=UNKNOWN
PartitionName=DEFAULT Nodes={host} MaxTime=1-0 State=UP DefMemPerCPU=100
{partitions}
"""
PARTITIONS = """\
PartitionName=cpu Default=YES
PartitionName=gpu
# Its jobs preempt those of the other two, which are requeued.
PartitionName=urgent PriorityTier=10 PreemptMode=off"""
NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none"
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd_port}
# Where munge is to be found, for once under this name.
AccountingStoragePass={folder}/run/munge.socket
AccountingStorageEnforce=associations
# A job that its partition will never take is refused, and does not wait for ever.
EnforcePartLimits=ALL"""
SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""
GRES_CONF = "Name=gpu Type={type} File={file} Flags=nvidia_gpu_env\n"


class SlurmError(RuntimeError):
    """What went wrong and the way out, in one line, followed by the last lines of a log if there is one."""


@dataclass(frozen=True)
class Job:
    """What SLURM reports about a job, and what it allocated to it."""

    id: int
    state: str
    reason: str
    partition: str
    # Snakemake's executor writes the rule and its wildcards here: rule_train_wildcards_pytorch_alexnet_1.
    comment: str
    restarts: int
    # How many GPUs it got, and which ones; SLURM forgets which as soon as the job ends.
    gpu_count: int
    gpus: tuple[int, ...]
    cpus: int
    memory_mb: int
    time_limit: str
    # Everything, under SLURM's names.
    fields: dict[str, str] = field(repr=False)


def obstacle(accounting: bool = False) -> str:
    """Why no cluster can be started here, in one line; empty if one can."""
    programs, packages = PROGRAMS, PACKAGES
    if accounting:
        programs, packages = (*PROGRAMS, *ACCOUNTING_PROGRAMS), f"{PACKAGES} {ACCOUNTING_PACKAGES}"
    if absent := [name for name in programs if find(name) is None]:
        return f"missing {', '.join(absent)}; apt-get install -y --no-install-recommends {packages}"
    return "" if os.geteuid() == 0 else "a test cluster needs root; run it as root or with sudo"


def find(program: str) -> str | None:
    """Path of a program; daemons are in folders that are not on a user's PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")


def command(*words: object) -> str:
    """Run one of SLURM's commands and return what it prints."""
    # A test may itself run inside a job, of this cluster or of another.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
    done = subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=60
    )
    if done.returncode:
        raise SlurmError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip() or f'exit {done.returncode}'}")
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` is true, for at most this many seconds. Returns whether it became true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def jobs() -> list[Job]:
    """Every job that SLURM remembers: waiting, running, or ended within the last 300 seconds."""
    blocks = command("scontrol", "show", "job", "--details").split("\n\n")
    return sorted((parse_job(block) for block in blocks if "JobId=" in block), key=lambda job: job.id)


def job(job_id: int) -> Job:
    """State and allocation of one job."""
    return parse_job(command("scontrol", "show", "job", "--details", job_id))


def parse_job(text: str) -> Job:
    """Parse one job of `scontrol show job --details`, whose lines are `Name=value` words."""
    fields = dict(re.findall(r"(?:^|\s)([A-Za-z][\w/:]*)=(\S*)", text))
    # JOB_GRES=gpu:h200:2, plus GRES=gpu:h200:2(IDX:0-1) while it runs; IDX:0,2-3 is also possible.
    ranges = re.findall(r"(\d+)(?:-(\d+))?", re.sub(r".*\(IDX:([\d,-]*)\).*|.*", r"\1", fields.get("GRES", "")))
    memory, unit = re.search(r"mem=([\d.]+)([MGT]?)|$", fields.get("TRES", "")).groups()
    return Job(
        id=int(fields["JobId"]),
        state=fields["JobState"],
        reason=fields.get("Reason", ""),
        partition=fields["Partition"],
        comment=fields.get("Comment", ""),
        restarts=int(fields["Restarts"]),
        gpu_count=sum(int(count) for count in re.findall(r"gpu(?::\w+)?:(\d+)", fields.get("JOB_GRES", ""))),
        gpus=tuple(index for first, last in ranges for index in range(int(first), int(last or first) + 1)),
        cpus=int(fields["NumCPUs"]),
        memory_mb=round(float(memory or 0) * {"G": 1024, "T": 1024**2}.get(unit, 1)),
        time_limit=fields["TimeLimit"],
        fields=fields,
    )


def wait_for_state(job_id: int, *states: str, seconds: float = 60) -> Job:
    """Wait until the job is in one of these states, and return it."""
    if not wait_until(lambda: job(job_id).state in states, seconds):
        raise SlurmError(f"job {job_id} is {job(job_id).state} after {seconds} s and not {' or '.join(states)}")
    return job(job_id)


def requeue(job_id: int) -> None:
    """Put a running job back into the queue; it starts again at once under the same id."""
    command("scontrol", "requeue", job_id)
    wait_for_state(job_id, "PENDING")
    start_now(job_id)


def start_now(job_id: int) -> None:
    """Spare a requeued or preempted job the two minutes that SLURM makes it wait."""
    command("scontrol", "update", f"JobId={job_id}", "StartTime=now")


class Cluster:
    """One node with stand-in GPUs of these types and these partitions: by default cpu (the default), gpu, and urgent (preempts the others).

    With accounting, jobs must name the account `ACCOUNT`, and sacct works.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        cpus: int = 8,
        memory_mb: int = 64000,
        gpus: tuple[str, ...] = ("h200", "h200"),
        partitions: str = PARTITIONS,
        accounting: bool = False,
    ):
        self.folder = Path(folder or tempfile.mkdtemp(prefix="slurm-")).resolve()
        self.cpus, self.memory_mb, self.gpus, self.partitions, self.accounting = cpus, memory_mb, gpus, partitions, accounting

    def __enter__(self) -> "Cluster":
        self.up()
        return self

    def __exit__(self, *exception: object) -> None:
        self.down()

    @property
    def conf(self) -> Path:
        """The cluster's slurm.conf."""
        return self.folder / "etc" / "slurm.conf"

    def up(self) -> None:
        """Start the daemons and wait until the node takes jobs; on failure, leave nothing behind."""
        if reason := obstacle(self.accounting) or self._occupied():
            self._remove()
            raise SlurmError(reason)
        try:
            self._write_files()
            self._link()
            run = self.folder / "run"
            self._start(
                "munged",
                "--force",
                f"--socket={run}/munge.socket",
                f"--key-file={self.folder}/etc/munge.key",
                f"--pid-file={run}/munged.pid",
                f"--log-file={self.folder}/log/munged.log",
                f"--seed-file={run}/munged.seed",
            )
            if self.accounting:
                self._start_accounting()
            self._start("slurmctld", "-c", "-f", self.conf)
            self._start("slurmd", "-c", "-f", self.conf, "-N", host())
            if not wait_until(self._idle, seconds=20):
                silent = [name for name in self._daemons() if self._pid(name) is None]
                raise SlurmError(f"{', '.join(silent) or 'the node'} did not come up\n{self.log_tail(*silent)}")
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Cancel the jobs, stop the daemons, restore /etc/slurm/slurm.conf, delete the cluster's files."""
        if current() == self.folder and self._pid("slurmctld"):
            with contextlib.suppress(SlurmError, subprocess.TimeoutExpired):
                # A job's processes would outlive slurmd.
                if waiting := command("squeue", "--noheader", "--format=%A").split():
                    command("scancel", *waiting)
                    wait_until(lambda: not command("squeue", "--noheader"), seconds=15)
        for name in reversed(DAEMONS):
            self._end(name)
        if SYSTEM_CONF.is_symlink() and SYSTEM_CONF.readlink() == self.conf:
            SYSTEM_CONF.unlink()
            if os.path.lexists(SAVED_CONF):
                SAVED_CONF.rename(SYSTEM_CONF)
        self._remove()

    def stop_controller(self) -> None:
        """Stop slurmctld, as when its machine restarts: jobs keep running, and commands get no answer."""
        self._end("slurmctld")

    def start_controller(self) -> None:
        """Start slurmctld again from the state that it left."""
        self._start("slurmctld", "-f", self.conf)

    def status(self) -> str:
        """Folder, daemons, partitions and queue, as text for a person."""
        daemons = ", ".join(f"{name} {self._pid(name) or 'is not running'}" for name in self._daemons())
        try:
            said = f"{command('sinfo', '--format=%P %a %D %T %G')}\n{command('squeue', '--states=all')}"
        except SlurmError as error:
            said = f"{error}\n\n{self.log_tail()}"
        return f"{self.folder}: {daemons}\n\n{said}"

    def log_tail(self, *names: str, lines: int = 8) -> str:
        """The last lines of the daemons' logs."""
        tails = []
        for name in names or self._daemons():
            path = self.folder / "log" / f"{name}.log"
            text = path.read_text(errors="replace").splitlines() if path.exists() else ["(empty)"]
            tails.append("\n".join([f"{name}.log:", *text[-lines:]]))
        return "\n".join(tails)

    def _daemons(self) -> list[str]:
        """Daemons that should run for this cluster, according to its configuration: another process may have started it."""
        accounting = self.conf.with_name("slurmdbd.conf").exists()
        return [name for name in DAEMONS if accounting or name not in ACCOUNTING_DAEMONS]

    def _occupied(self) -> str:
        """Why this folder cannot be used now; empty if it can."""
        if (running := current()) is not None:
            return f"a test cluster is up in {running}; first: python {Path(__file__).name} down"
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / MARK).exists():
            return f"{self.folder} is not empty; name a new folder"
        return ""

    def _remove(self) -> None:
        """Delete what `up` made in the folder, and the folder itself if that leaves it empty."""
        if (self.folder / MARK).exists():
            for name in FOLDERS:
                shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / MARK).unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _write_files(self) -> None:
        self._remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARK).touch()
        # munged wants a path that nobody else can write to; SLURM's commands must be able to pass through it, which mkdtemp's 700 prevents.
        self.folder.chmod(0o755)
        for name in FOLDERS:
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "etc" / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        devices = [self.folder / "run" / f"fakegpu{index}" for index in range(len(self.gpus))]
        for device in devices:
            # SLURM sets CUDA_VISIBLE_DEVICES only for character devices; /dev/null is one.
            try:
                os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            except OSError as error:
                raise SlurmError(f"cannot make the stand-in GPU {device}: {error.strerror}; allow mknod or name another folder") from None
        values = {"cpus": self.cpus, "memory_mb": self.memory_mb, "partitions": self.partitions, "folder": self.folder, "host": host()}
        values["gres"] = ",".join(f"gpu:{kind}:{count}" for kind, count in Counter(self.gpus).items())
        values |= dict(zip(("slurmctld_port", "slurmd_port", "slurmdbd_port"), free_ports(3), strict=True))
        values["accounting"] = ACCOUNTING.format(**values) if self.accounting else NO_ACCOUNTING
        self.conf.write_text(SLURM_CONF.format(**values), encoding="utf-8")
        if self.accounting:
            database = self.conf.with_name("slurmdbd.conf")
            database.touch(mode=0o600)  # slurmdbd accepts no other mode
            database.write_text(SLURMDBD_CONF.format(**values), encoding="utf-8")
        gres = "".join(GRES_CONF.format(type=kind, file=device) for kind, device in zip(self.gpus, devices, strict=True))
        self.conf.with_name("gres.conf").write_text(f"AutoDetect=off\n{gres}", encoding="utf-8")

    def _link(self) -> None:
        SYSTEM_CONF.parent.mkdir(exist_ok=True)
        if os.path.lexists(SYSTEM_CONF):
            # A dangling link is one of ours whose folder was deleted; the file that it replaced is still saved.
            if SYSTEM_CONF.is_symlink() and not SYSTEM_CONF.exists():
                SYSTEM_CONF.unlink()
            else:
                SYSTEM_CONF.rename(SAVED_CONF)
        SYSTEM_CONF.symlink_to(self.conf)

    def _start_accounting(self) -> None:
        """Start MariaDB on a socket in the cluster's folder, and slurmdbd on top of it; create the one account."""
        data, socket_file = self.folder / "database", self.folder / "run" / "mariadb.socket"
        command(find("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db")
        self._start(
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            f"--socket={socket_file}",
            f"--pid-file={self.folder}/run/mariadbd.pid",
            f"--log-error={self.folder}/log/mariadbd.log",
            "--skip-networking",
            "--skip-grant-tables",
            "--innodb-flush-log-at-trx-commit=0",
            background=True,
        )
        # slurmdbd looks for its configuration beside slurm.conf, and for MariaDB where MYSQL_UNIX_PORT tells its client library to.
        self._start("slurmdbd", environment={"SLURM_CONF": str(self.conf), "MYSQL_UNIX_PORT": str(socket_file)})
        if not wait_until(self._accounting_answers, seconds=30):
            raise SlurmError(f"slurmdbd does not answer\n{self.log_tail('slurmdbd', 'mariadbd')}")
        command("sacctmgr", "--immediate", "add", "cluster", "tests")
        command("sacctmgr", "--immediate", "add", "account", ACCOUNT, "cluster=tests")
        command("sacctmgr", "--immediate", "add", "user", "root", f"account={ACCOUNT}")

    def _accounting_answers(self) -> bool:
        with contextlib.suppress(SlurmError):
            command("sacctmgr", "--noheader", "show", "cluster")
            return True
        return False

    def _start(self, name: str, *options: object, background: bool = False, environment: dict[str, str] | None = None) -> None:
        """Start a daemon and wait for its pid file. `background`: the daemon does not go into the background by itself."""
        log = self.folder / "log" / f"{name}.log"
        errors = self.folder / "log" / f"{name}.stderr"
        with errors.open("w", encoding="utf-8") as file:
            done = subprocess.Popen(
                [find(name), *map(str, options)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=os.environ | (environment or {}),
                start_new_session=True,
            )
        if not background:
            done.wait()
        if done.returncode or not wait_until(lambda: self._pid(name) is not None, seconds=10):
            said = (errors.read_text(errors="replace") + (log.read_text(errors="replace") if log.exists() else "")).splitlines()
            raise SlurmError("\n".join([f"{name} did not start (exit {done.returncode}); its last lines:", *said[-8:]]))

    def _pid(self, name: str) -> int | None:
        """Process id of one of this cluster's daemons, if it is running."""
        try:
            pid = int((self.folder / "run" / f"{name}.pid").read_text(encoding="utf-8"))
            # Another process may have the id by now.
            return pid if alive(pid) and (Path("/proc") / str(pid) / "comm").read_text(encoding="utf-8").strip() == name else None
        except (OSError, ValueError):
            return None

    def _end(self, name: str) -> None:
        pid = self._pid(name)
        for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            if pid is None or self._pid(name) is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            # A daemon removes its pid file before it has ended.
            wait_until(lambda: not alive(pid), seconds)

    def _idle(self) -> bool:
        with contextlib.suppress(SlurmError):
            return set(command("sinfo", "--noheader", "--format=%T").split()) == {"idle"}
        return False


def current() -> Path | None:
    """Folder of the test cluster that /etc/slurm/slurm.conf links to, if any."""
    if not SYSTEM_CONF.is_symlink():
        return None
    folder = SYSTEM_CONF.readlink().parent.parent
    return folder if (folder / MARK).exists() else None


def alive(pid: int) -> bool:
    """Whether a process is running; a zombie, which its parent has not collected yet, is not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def host() -> str:
    """This machine's name as SLURM calls it."""
    return socket.gethostname().partition(".")[0]


def free_ports(count: int) -> list[int]:
    """Free ports, below the range from which the kernel hands out ports to other processes."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            ports.append(port)
    return ports


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A real SLURM of one node on this machine, for tests.")
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--accounting", action="store_true", help=f"jobs must name the account {ACCOUNT}; brings up MariaDB as well")
    parser.add_argument("--folder", type=Path, help="where it lives (default: up makes a temporary one, the others find it)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.action == "up":
            cluster = Cluster(arguments.folder, accounting=arguments.accounting)
            cluster.up()
            print(cluster.folder)
            return 0
        folder = arguments.folder or current()
        if folder is None:
            raise SlurmError("no test cluster is up")
        if arguments.action == "down":
            Cluster(folder).down()
        else:
            print(Cluster(folder).status())
    except SlurmError as error:
        print(f"slurm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
