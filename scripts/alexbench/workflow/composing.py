"""Find out which jobs a profile would submit to SLURM, using the executor plugin itself but submitting and running nothing.

Run as a program, this is Snakemake, stopped just before it would submit its first job.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SNAKEFILE = Path(__file__).parents[3] / "Snakefile"
# All targets that a user can request; together they need every rule that can become a job.
TARGETS = ("all", "speed", "parity", "equal_time")


@dataclass(frozen=True)
class Composed:
    """One rule's job at one attempt: sbatch's options, or the plugin's `refusal`; `resources` under Snakemake's names."""

    rule: str
    attempt: int
    resources: dict
    options: list[str]
    refusal: str = ""


class CannotCompose(Exception):
    """Snakemake ended before it composed a job; the text is its own output."""


def jobs(profile: Path | str, configfiles: list[Path | str]) -> list[Composed]:
    """The jobs of every rule that `profile` sends to SLURM, for every attempt that it allows, in the order of the rules.

    Jobs of one rule with the same resources are listed once. Raises `CannotCompose` if Snakemake rejects the profile or the workflow.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "jobs.json")
        command = [
            *(sys.executable, __file__, "--snakefile", SNAKEFILE, "--profile", profile),
            *(["--configfile", *configfiles] if configfiles else []),
            # As if nothing had been made yet, and without disturbing another run in this folder.
            *("--forceall", "--nolock", "--no-hooks", "--rerun-incomplete", "--nocolor", "--slurm-logdir", folder),
            # The executor ends only after this pause, 40 s by default.
            "--slurm-init-seconds-before-status-checks=1",
            *("--", *TARGETS),
        ]
        done = subprocess.run(
            list(map(str, command)),
            env=os.environ | {"ALEXBENCH_COMPOSED": str(answer)},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if not answer.exists():
            raise CannotCompose((done.stderr.strip() or done.stdout.strip())[-2000:])
        return [Composed(**job) for job in json.loads(answer.read_text(encoding="utf-8"))]


def _compose(scheduler) -> Iterator[Composed]:
    """Each rule's jobs, as the executor would submit them."""
    import snakemake_executor_plugin_slurm as plugin

    executor, dag = scheduler._executor, scheduler.workflow.dag
    found: list[str] = []

    class Submission:
        """Takes the place of the sbatch process that the plugin starts."""

        returncode = 0

        def __init__(self, command: str, **_):
            found.append(command)

        def communicate(self, input: str | None = None) -> tuple[str, str]:
            return "1", ""

    class Subprocess:
        Popen = Submission

        def __getattr__(self, name: str):
            return getattr(subprocess, name)

    plugin.subprocess = Subprocess()
    refusals: list[str] = []
    executor._report_job_submission_threadsafe = lambda info: None
    executor._report_job_error_threadsafe = lambda info, msg: refusals.append(msg)
    # The plugin would also log a traceback for each refusal.
    executor.logger = type("Quiet", (), {level: staticmethod(lambda *_, **__: None) for level in ("debug", "info", "warning", "error")})()

    known = set()
    order = {rule: place for place, rule in enumerate(scheduler.workflow.rules)}
    for job in sorted(dag.jobs, key=lambda job: (order[job.rule], job.jobid)):
        if job.is_local:
            continue
        group = dag.get_job_group(job)
        submitted = group or job
        if group:
            group.finalize()
        for attempt in range(1, (submitted.restart_times or 0) + 2):
            submitted.attempt = attempt
            asked = (job.rule.name, attempt, json.dumps(dict(submitted.resources.items()), default=str, sort_keys=True))
            if asked in known:
                continue
            known.add(asked)
            found.clear(), refusals.clear()
            try:
                executor.run_job(submitted)
            except AttributeError as error:
                # When it refuses a group, the plugin's error handler reads the group's `rule`, which a group does not have.
                refusals.append(str(error.__context__))
            reason = refusals[0].removeprefix("Job submission failed with exception: ") if refusals else ""
            # Leave out "sbatch" itself and the command that the job would run.
            request = shlex.split(re.split(r" --wrap=| /dev/stdin", found[0])[0])[1:] if found else []
            resources = {key: value for key, value in submitted.resources.items() if not key.startswith("_")}
            yield Composed(job.rule.name, attempt, resources | {"threads": submitted.threads}, request, reason)


def _schedule(scheduler) -> bool:
    """Replaces Snakemake's scheduling: write the composed jobs instead of submitting them."""
    composed = [asdict(job) for job in _compose(scheduler)]
    scheduler._executor.shutdown()
    Path(os.environ["ALEXBENCH_COMPOSED"]).write_text(json.dumps(composed), encoding="utf-8")
    return True


if __name__ == "__main__":
    from snakemake.cli import main
    from snakemake.dag import DAG
    from snakemake.scheduling.job_scheduler import JobScheduler

    JobScheduler.schedule = _schedule
    # Creating the environments takes minutes and does not affect what a job asks for.
    DAG.create_conda_envs = lambda self, **_: None
    main(sys.argv[1:])
