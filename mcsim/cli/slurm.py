"""Job scripts: a study as an array of jobs for SLURM."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

NOTICE_S = 120  # between the signal and the time limit
MOST_RESTARTS = 50  # of a job: one that never ends a chunk in its time would go on forever


@dataclass(frozen=True)
class Job:
    """What a job script asks for; `command` is `mcsim run` as for the whole study."""

    name: str
    command: tuple[str, ...]
    n_shards: int
    n_cpus: int
    time_limit: str


def slurm_script(job: Job) -> str:
    """The script for sbatch: an array of `n_shards` jobs that share one study."""
    template = Template((Path(__file__).parent / "job.slurm").read_text(encoding="utf-8"))
    return template.substitute(
        name=shlex.quote(job.name),
        command=shlex.join(job.command),
        n_shards=job.n_shards,
        n_cpus=job.n_cpus,
        time_limit=job.time_limit,
        notice_s=NOTICE_S,
        most_restarts=MOST_RESTARTS,
    )
