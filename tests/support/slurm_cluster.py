"""A Slurm of a test's own on this machine: munged, slurmctld and slurmd in the foreground, own files and ports.

Several nodes are several slurmd on the one host. What was started is ended by its process id.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from ray_cluster import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
READY_SECONDS = 30.0

_CONFIG = """\
ClusterName=lessrltest
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=30
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=300 OverSubscribe=NO
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF OverSubscribe=NO
"""


class SlurmCluster:
    """Asks and tells the controller."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)

    def call(self, *words: str, seconds: float = 60.0) -> str:
        """What a command prints; its errors are the test's."""
        done = subprocess.run(
            words, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.returncode} {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """What the controller knows of a job, by its own words: JobState, Restarts, ExitCode ..."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for(self, what: str, holds: Callable[[], bool], seconds: float) -> float:
        """Poll what other processes do; how long it took."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() < began + seconds, f"{what} did not happen within {seconds:g} s: {self.logs()}"
            time.sleep(0.25)
        return time.monotonic() - began

    def logs(self) -> str:
        """The last lines of every log here."""
        return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))


def missing_programs() -> list[str]:
    """Programs of Slurm that are not here; Debian has them in slurmctld, slurmd, slurm-client and munge."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def slurm_cluster(*, num_nodes: int = 1, gpus_per_node: int = 0) -> Iterator[SlurmCluster]:
    """A controller and its nodes, ready.

    Args:
        gpus_per_node: counted by Slurm; there is no device behind them.
    """
    # The path of a Unix socket must be short, and pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        environment.pop(name, None)
    cluster = SlurmCluster(folder, environment)
    started: list[subprocess.Popen[bytes]] = []
    try:
        nodes = _write_config(folder, num_nodes, gpus_per_node)
        (folder / "munge.key").write_bytes(secrets.token_bytes(64))
        (folder / "munge.key").chmod(0o400)
        munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("pid-file", "seed-file", "log-file")]
        started.append(
            _start(
                cluster,
                "munged",
                "--foreground",
                "--force",
                f"--socket={folder}/munge.sock",
                f"--key-file={folder}/munge.key",
                *munge,
            )
        )
        cluster.wait_for("munged's socket", (folder / "munge.sock").exists, READY_SECONDS)
        started.append(_start(cluster, "slurmctld", "-D", "-c"))
        started += [_start(cluster, "slurmd", "-D", "-N", node) for node in nodes]
        cluster.wait_for("idle nodes", lambda: _num_idle(cluster) == num_nodes, READY_SECONDS)
        yield cluster
    finally:
        _end(started)
        shutil.rmtree(folder, ignore_errors=True)


def _write_config(folder: Path, num_nodes: int, gpus_per_node: int) -> list[str]:
    host, cores = os.uname().nodename, os.cpu_count()
    names = [f"node{index}" for index in range(num_nodes)]
    gpus = f" Gres=gpu:{gpus_per_node}" if gpus_per_node else ""
    lines = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={cores}{gpus} State=UNKNOWN"
        for name in names
    ]
    user = pwd.getpwuid(os.getuid()).pw_name
    text = _CONFIG.format(host=host, user=user, port=free_port(), folder=folder, nodes="\n".join(lines))
    (folder / "slurm.conf").write_text(text)
    if gpus_per_node:
        devices = [folder / f"gpu{index}" for index in range(gpus_per_node)]
        for device in devices:
            device.touch()
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
    (folder / "state").mkdir()
    return names


def _start(cluster: SlurmCluster, *words: str) -> "subprocess.Popen[bytes]":
    with (cluster.folder / f"{words[0]}-{words[-1].strip('-')[:8].replace('/', '_')}.out.log").open("w") as log:
        return subprocess.Popen(words, env=cluster.environment, stdout=log, stderr=log, start_new_session=True)


def _num_idle(cluster: SlurmCluster) -> int:
    done = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--partition=low", "--format=%N %t"],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return sum(line.split()[-1] == "idle" for line in done.stdout.splitlines())


def _end(started: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Jobs first: what a slurmd started is below it, also where its step has a session of its own."""
    everyone = [each for process in started for each in psutil.Process(process.pid).children(recursive=True)]
    for process in reversed(started):
        process.send_signal(signal.SIGTERM)
    psutil.wait_procs([psutil.Process(each.pid) for each in started], timeout=10)
    for each in [*everyone, *(psutil.Process(process.pid) for process in started if process.poll() is None)]:
        if each.is_running():
            each.kill()
    for process in started:
        process.wait(timeout=10)
