"""`lessrl submit`: a recipe as a Ray job, followed to its end."""

import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ray.job_submission import JobStatus, JobSubmissionClient

from shaping.errors import UserError

POLL_SECONDS = 1.0
EXIT_CODES = {JobStatus.SUCCEEDED: 0, JobStatus.FAILED: 1, JobStatus.STOPPED: 130}


def submit_recipe(
    recipe: Path, overrides: Sequence[str], address: str, runs: Path, *, layers: Sequence[Path] = ()
) -> int:
    """Submit the current directory and the recipe in it, print the job's log, and wait.

    Args:
        recipe, layers: inside the current directory, which becomes the job's working directory.
        address: of the cluster's dashboard.
        runs: absolute folder on the head node in which the run gets its directory; the job's own working directory is
            thrown away by Ray.
    Returns:
        0 completed, 1 failed, 130 stopped.
    Raises:
        UserError: no cluster answers, or the recipe is elsewhere.
    """
    root = Path.cwd()
    words = ["lessrl", "train", _inside(recipe, root, "recipe (RECIPE)")]
    words += [word for each in layers for word in ("--with", _inside(each, root, "layer (--with)"))]
    words += [word for each in overrides for word in ("--set", each)]
    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(
            entrypoint=shlex.join(words),
            runtime_env={
                "working_dir": str(root),
                "excludes": [".venv", ".git", "runs"],
                "env_vars": {"LESSRL_RUNS": str(runs)},
            },
        )
    except (ConnectionError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"a Ray dashboard must answer at {address}: {first}; start a cluster with `ray start --head` (--address)"
        ) from error
    sys.stdout.write(f"job {job}: {shlex.join(words)}\n")
    asyncio.run(_follow(client, job))
    return EXIT_CODES[client.get_job_status(job)]


def _inside(path: Path, root: Path, named: str) -> str:
    """The path from the root on."""
    try:
        return str(path.resolve().relative_to(root))
    except ValueError as error:
        word, place = named.split()
        raise UserError(
            f"a {word} must be inside the directory that is sent to the cluster, got {path} outside {root}; "
            f"change directory or copy it {place}"
        ) from error


async def _follow(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        sys.stdout.write(lines)
        sys.stdout.flush()
    # The log may end a moment before the job's state says so.
    while not client.get_job_status(job).is_terminal():
        await asyncio.sleep(POLL_SECONDS)
