"""A real Slurm cluster on loopback: slurmctld, two nodes on this machine, and munge, each in a folder of the test.

Debian's packages slurmctld, slurmd, slurm-client and munge. The daemons need root, no systemd and no cgroups.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "munged")

_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={root}/munge.socket
SlurmctldPort={port}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
KillWait=5
SlurmdTimeout=5
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
{more}
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={one} CPUs=8 RealMemory=2000
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={two} CPUs=8 RealMemory=2000
PartitionName=main Nodes=one,two Default=YES DefaultTime=2 MaxTime=10 State=UP
PartitionName=endless Nodes=two MaxTime=UNLIMITED State=UP
PartitionName=urgent Nodes=one,two MaxTime=10 PriorityTier=10 State=UP
"""
NODES = ("one", "two")


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"Slurm is not installed: no {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


class Cluster:
    """A running cluster.

    Args:
        root: its folder.
        more: more lines of its configuration.
    """

    def __init__(self, root: Path, more: str = "") -> None:
        self.root = root
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        root.mkdir(parents=True)
        root.chmod(0o755)
        (root / "state").mkdir()
        host = socket.gethostname().partition(".")[0]
        port, one, two = _free_ports(3)
        config = _CONFIG.format(host=host, root=root, port=port, one=one, two=two, more=more)
        (root / "slurm.conf").write_text(config)

    @property
    def environment(self) -> dict[str, str]:
        """The variable by which Slurm's programs find the cluster."""
        return {"SLURM_CONF": str(self.root / "slurm.conf")}

    def start(self) -> None:
        """Start all daemons, and wait until the nodes are idle."""
        key = self.root / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        files = {name: self.root / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        self._start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={files['socket']}",
            f"--pid-file={files['pid']}", f"--log-file={files['log']}", f"--seed-file={files['seed']}",
        )  # fmt: skip
        _until(files["socket"].exists)
        self._start("slurmctld", "-D")
        for name in NODES:
            self.start_node(name)
        _until(lambda: self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle", "idle"])

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        self._start("slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """A node dies: its daemon, and all processes of its jobs."""
        for step in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = step.read_bytes()
                if b"slurmstepd" in words and self._is_of(int(step.parent.name), name):
                    _kill_tree(int(step.parent.name))
        daemon = self._daemons.pop(f"slurmd {name}")
        daemon.kill()
        daemon.wait()

    def _is_of(self, pid: int, node: str) -> bool:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return f"SLURM_CONF={self.root}/slurm.conf".encode() in variables and any(
            f"SLURMD_NODENAME={node}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            for child in _children(pid)
        )

    def ask(self, *words: str) -> str:
        """What one of Slurm's programs prints."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=90, check=False
        )
        return done.stdout

    def stop(self) -> None:
        """End all jobs and daemons."""
        if "slurmctld" in self._daemons:
            self.ask("scancel", "--quiet", "--user=root")
            with contextlib.suppress(TimeoutError):
                _until(lambda: not self.ask("squeue", "-h"), 15)
        for daemon in reversed(self._daemons.values()):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self._daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _start(self, *words: str) -> None:
        name = " ".join([words[0], *words[3:4]] if words[0] == "slurmd" else words[:1])
        with (self.root / f"{name.replace(' ', '-')}.out").open("ab") as told:
            self._daemons[name] = subprocess.Popen(
                words, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=told, stderr=told
            )


@contextlib.contextmanager
def cluster(root: Path, more: str = "") -> Iterator[Cluster]:
    """A cluster that is stopped at the end. The test is skipped where Slurm is missing or cannot run."""
    if why := missing():
        pytest.skip(why)
    running = Cluster(root, more)
    try:
        try:
            running.start()
        except TimeoutError:
            logs = {path.name: path.read_text(errors="replace")[-500:] for path in sorted(root.glob("*.out"))}
            pytest.skip(f"Slurm is installed and does not start on this machine: {logs}")
        yield running
    finally:
        running.stop()


def _free_ports(count: int) -> Sequence[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _until(is_so, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError("Slurm did not start")
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _kill_tree(pid: int) -> None:
    for child in _children(pid):
        _kill_tree(child)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
