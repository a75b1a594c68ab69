"""Single-machine SLURM for the tests: munged, slurmctld and slurmd as root, without systemd and cgroups.

It counts a fake GPU: an empty ordinary file stands for the device, so jobs can request it but not use it.
An existing SLURM is never touched.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from programs import find

CONFIG_DIR = Path("/etc/slurm")
CONFIG_FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
MARK = "cellmill-slurm"
NODE_CPUS, NODE_MEMORY_MB = 8, 64_000


def unavailable() -> str:
    """Return the reason why the test cluster cannot be started here, or "" if it can."""
    if os.geteuid() != 0:
        return "a test SLURM is started as root only"
    theirs = [name for name in CONFIG_FILES if (CONFIG_DIR / name).exists() and not _is_ours(CONFIG_DIR / name)]
    if theirs:
        return f"a SLURM is configured here already ({CONFIG_DIR / theirs[0]}) and stays untouched"
    return ""


def _is_ours(path: Path) -> bool:
    return path.is_symlink() and MARK in str(path.readlink())


class Cluster:
    """A node with the partitions cpu and gpu and a fake GPU.

    Parameters
    ----------
    root : Path
        Empty folder for configuration, state and logs; readable by everybody, because munged runs as another user.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = socket.gethostname().split(".")[0]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the daemons and wait until a job with a GPU has run."""
        for name in ("etc", "state", "spool", "log", "run", "dev", "munge"):
            (self.root / name).mkdir(parents=True)
        self._start_munge()
        self._write_config()
        self._link_config()
        self.start_daemons("slurmctld", "slurmd")
        self._wait("a first job on the GPU", ["srun", "-Q", "-p", "gpu", "--gpus=1", "true"], seconds=60)

    def stop(self) -> None:
        """Stop every job and daemon and remove the configuration."""
        subprocess.run(["scancel", "--full", "-u", "root"], capture_output=True, timeout=30, check=False)
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in reversed(self.processes.values()):
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in CONFIG_FILES:
            if _is_ours(CONFIG_DIR / name):
                (CONFIG_DIR / name).unlink()

    def start_daemons(self, *names: str) -> None:
        """Start slurmctld, slurmd or both, and wait until the controller has the node."""
        for name in names:
            self._spawn(name, "-D", "-f", str(self.root / "etc/slurm.conf"))
        self._wait("a registered node", ["sinfo", "-h", "-o", "%T"], answer=("idle", "mixed", "allocated"), seconds=90)

    def kill(self, *names: str) -> None:
        """Kill daemons at once; their jobs go on."""
        for name in names:
            self.processes[name].kill()
            self.processes[name].wait()

    def crash_node(self) -> None:
        """Kill the node's daemon, its jobs and all that they started, as a power cut does."""
        self.kill("slurmd")
        rows = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
        processes = [line.split(maxsplit=2) for line in rows.splitlines()]
        lost = {pid for pid, _, name in processes if name.startswith("slurmstepd")}
        while more := {pid for pid, parent, _ in processes if parent in lost} - lost:
            lost |= more
        for pid in lost:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def jobs(self) -> list[dict[str, str]]:
        """List the controller's records of all jobs, with scontrol's fields."""
        text = subprocess.run(["scontrol", "-o", "show", "jobs"], capture_output=True, text=True, check=True).stdout
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in text.splitlines() if line]

    def _spawn(self, program: str, *arguments: str, user: str | None = None) -> None:
        path = find(program)
        assert path is not None, program
        account: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
        with (self.root / "log" / f"{program}.out").open("ab") as log:
            self.processes[program] = subprocess.Popen(
                [str(path), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **account,
            )

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        for path, mode in ((folder, 0o755), (key, 0o400)):
            shutil.chown(path, "munge", "munge")
            path.chmod(mode)
        self.socket = folder / "socket"
        self._spawn(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.socket}",
            f"--pid-file={folder / 'pid'}", f"--log-file={folder / 'log'}", f"--seed-file={folder / 'seed'}",
            user="munge",
        )  # fmt: skip
        self._wait("munge", ["munge", "-S", str(self.socket), "-n"], seconds=20)

    def _write_config(self) -> None:
        controller, daemon = _free_port(), _free_port()
        settings = {
            "ClusterName": "cellmill", "SlurmctldHost": f"{self.host}(127.0.0.1)", "SlurmUser": "root",
            "SlurmdUser": "root", "AuthType": "auth/munge", "CredType": "cred/munge",
            # A requeued job waits until its credential has expired: 10 s instead of two minutes.
            "AuthInfo": f"socket={self.socket},cred_expire=10",
            "SlurmctldPort": controller, "SlurmdPort": daemon,
            "StateSaveLocation": self.root / "state", "SlurmdSpoolDir": self.root / "spool",
            "SlurmctldPidFile": self.root / "run/slurmctld.pid", "SlurmdPidFile": self.root / "run/slurmd.pid",
            "SlurmctldLogFile": self.root / "log/slurmctld.log", "SlurmdLogFile": self.root / "log/slurmd.log",
            "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none", "SwitchType": "switch/none",
            # A job that exceeds its memory is killed, as by cgroups on a real cluster.
            "JobAcctGatherType": "jobacct_gather/linux", "JobAcctGatherFrequency": "task=1",
            "JobAcctGatherParams": "OverMemoryKill",
            # Jobs of the partition `urgent` take the node from others, which start again later.
            "PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE",
            # A node that is silent for so long is down, and its jobs are queued again.
            "SlurmdTimeout": 10, "MpiDefault": "none", "ReturnToService": 2,
            "SelectType": "select/cons_tres", "SelectTypeParameters": "CR_Core_Memory", "GresTypes": "gpu",
            "DefMemPerCPU": 500, "MinJobAge": 300, "KillWait": 2,
            # An impossible job is rejected at once instead of waiting forever.
            "EnforcePartLimits": "ALL",
            "SchedulerParameters": "sched_interval=1,bf_interval=2,batch_sched_delay=0,sched_min_interval=20000",
            "AccountingStorageType": "accounting_storage/none",
            # The node is declared larger than this machine, so that the requests of the shipped profile fit.
            "SlurmdParameters": "config_overrides",
        }  # fmt: skip
        lines = [f"{key}={value}" for key, value in settings.items()]
        lines.append(f"NodeName={self.host} NodeAddr=127.0.0.1 CPUs={NODE_CPUS} RealMemory={NODE_MEMORY_MB} Gres=gpu:1")
        lines += [
            f"PartitionName={name} Nodes={self.host} Default={default} MaxTime=INFINITE State=UP {more}"
            for name, default, more in (
                ("cpu", "YES", "PriorityTier=1"),
                ("gpu", "NO", "PriorityTier=1 GraceTime=20"),
                ("urgent", "NO", "PriorityTier=9"),
            )
        ]
        (self.root / "etc/slurm.conf").write_text("\n".join(lines) + "\n")
        device = self.root / "dev/fake-gpu"
        device.touch()
        # Count= alone leaves the node without a GPU; File= with an ordinary file works.
        (self.root / "etc/gres.conf").write_text(f"NodeName={self.host} Name=gpu File={device}\n")
        (self.root / "etc/cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def _link_config(self) -> None:
        # The executor plugin removes every SLURM_* variable, so the clients need the files in their default place.
        CONFIG_DIR.mkdir(exist_ok=True)
        for name in CONFIG_FILES:
            if _is_ours(CONFIG_DIR / name):
                (CONFIG_DIR / name).unlink()
            (CONFIG_DIR / name).symlink_to(self.root / "etc" / name)

    def _wait(self, what: str, command: list[str], *, seconds: int, answer: tuple[str, ...] = ()) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                tried = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
            except subprocess.TimeoutExpired:
                continue
            if tried.returncode == 0 and (not answer or set(answer) & set(tried.stdout.split())):
                return
            time.sleep(0.3)
        logs = "".join(
            f"\n== {log.name}\n{log.read_text(errors='replace')[-1500:]}"
            for log in sorted((self.root / "log").iterdir())
        )
        raise RuntimeError(f"waited {seconds} s for {what}{logs}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
