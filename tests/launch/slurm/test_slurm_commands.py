"""What is asked of Slurm's programs, and what their answers mean. The programs are planted; their texts are those of
Slurm 22.05.8."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from outlast.errors import AnswerLost, LaunchError, LaunchRefused, UsageError
from outlast.launch.keeper import DOWN
from outlast.launch.provider import Terms
from outlast.launch.slurm.provider import SlurmProvider, connect
from outlast.launch.slurm.scheduler import Job, Scheduler, seconds_of, variables
from outlast.launch.slurm.script import flags_of, partition_of, script
from tests import messages

JOB = Path("/scratch/ada/runs/.jobs/outlast-x-001/job.sh")
POLICY = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size "
    "and/or time limits)"
)
PARTITIONS = (
    "PartitionName=cpu AllowGroups=ALL Default=YES QoS=N/A DefaultTime=01:00:00 MaxTime=2-00:00:00 State=UP\n"
    "PartitionName=gpu AllowGroups=ALL Default=NO QoS=N/A DefaultTime=NONE MaxTime=04:00:00 State=UP\n"
    "PartitionName=long AllowGroups=ALL Default=NO QoS=N/A DefaultTime=NONE MaxTime=UNLIMITED State=UP\n"
)


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Plant programs that print an answer; their calls are written into a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def program(name: str, out: str = "", err: str = "", code: int = 0, seconds: float = 0) -> Path:
        (folder / f"{name}.out").write_text(out)
        (folder / f"{name}.err").write_text(err)
        calls = folder / f"{name}.calls"
        (folder / name).write_text(
            f'#!/bin/sh\necho "$*" >> {calls}\ncat {folder}/{name}.err >&2\ncat {folder}/{name}.out\n'
            f"[ {seconds} = 0 ] || exec sleep {seconds}\nexit {code}\n"
        )
        (folder / name).chmod(0o755)
        return calls

    return program


def impatient(**more: float) -> Scheduler:
    return Scheduler(0.0, sleep=lambda _: None, **more)


def test_a_job_is_submitted_under_its_name(plant) -> None:
    calls = plant("sbatch", "4711\n")
    assert impatient().submit("outlast-x-001", JOB) == 4711
    assert calls.read_text() == f"--parsable --job-name=outlast-x-001 {JOB}\n"
    plant("sbatch", "4712;alps\n", "sbatch: lua: your project has 12 hours left\n")
    assert impatient().submit("outlast-x-001", JOB) == 4712


@pytest.mark.parametrize(
    ("told", "again"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", ""),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", ""),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", "full"),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", ""),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", "moment"),
    ],
)
def test_a_refusal_says_whether_the_same_job_may_be_accepted_later(plant, told: str, again: str) -> None:
    plant("sbatch", err=told, code=1)
    with pytest.raises(LaunchRefused) as caught:
        impatient().submit("outlast-x-001", JOB)
    assert caught.value.again == again
    words = " ".join(line.removeprefix("sbatch: error: ") for line in told.splitlines())
    key = "launch/slurm-silent" if again == "moment" else "launch/slurm-refused"
    messages.said([str(caught.value)], key, words=words)


def test_a_job_whose_answer_is_lost_may_be_there(plant) -> None:
    plant("sbatch", err="sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", code=1)
    with messages.raises(AnswerLost, "launch/slurm-answer-lost", words=messages.ANY):
        impatient().submit("outlast-x-001", JOB)
    plant("sbatch", seconds=30)
    with messages.raises(AnswerLost, "launch/slurm-no-answer", seconds="0.5"):
        impatient(timeout=0.5).submit("outlast-x-001", JOB)


def test_a_full_queue_lets_sbatch_wait_and_so_do_we(plant) -> None:
    plant("sbatch", err="sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n", seconds=30)
    plant("squeue")
    with pytest.raises(LaunchRefused) as caught:
        impatient(timeout=0.5).submit("outlast-x-001", JOB)
    assert caught.value.again == "full"
    plant("squeue", f"12|PENDING|Priority|{JOB}\n")
    assert impatient(timeout=0.5).submit("outlast-x-001", JOB) == 12, "it was accepted at last"


def test_a_job_is_found_by_its_name_and_its_script(plant) -> None:
    calls = plant("squeue", f"9|COMPLETED|None|{JOB}\n12|RUNNING|None|/tmp/other.sh\n11|PENDING|Resources|{JOB}\n")
    assert impatient().find("outlast-x-001", JOB) == Job(11, "PENDING", "Resources")
    assert "--me" in calls.read_text().split()
    assert impatient().find("outlast-x-001", Path("/nowhere")) is None


@pytest.mark.parametrize(
    "row",
    [
        f"{'9' * 5000}|RUNNING|None|{JOB}",
        f"-3|RUNNING|None|{JOB}",
        f"0|RUNNING|None|{JOB}",
        f"\u0663|RUNNING|None|{JOB}",
        f"7|running\x1b[2J|None|{JOB}",
        f"7|RUNNING|None|{JOB}x",
        f"7|RUNNING|{JOB}",
        "slurm_load_jobs error",
        "\x00",
    ],
)
def test_an_answer_that_is_no_row_is_no_job(plant, row: str) -> None:
    plant("squeue", f"{row}\n")
    assert impatient().find("outlast-x-001", JOB) is None
    plant("squeue", f"{row}\n12|PENDING|{'why ' * 500}|{JOB}\n")
    found = impatient().find("outlast-x-001", JOB)
    assert (found.number, found.state) == (12, "PENDING")
    assert len(found.reason) < 250


@pytest.mark.parametrize("answer", ["", "0", "-1", "9" * 5000, "\u0663", "4711 4712", "Submitted batch job 4711"])
def test_an_answer_of_sbatch_that_is_no_number_is_a_refusal(plant, answer: str) -> None:
    plant("sbatch", f"{answer}\n")
    with pytest.raises(LaunchRefused) as caught:
        impatient().submit("outlast-x-001", JOB)
    assert caught.value.again == ""


def test_a_cancelled_session_says_so_whatever_its_exit_code_is(plant, tmp_path: Path) -> None:
    """The machine went down: a person has cancelled the job, or Slurm has ended it."""
    folder = tmp_path / ".jobs/outlast-x-001"
    provider = SlurmProvider(folder.parent, impatient())
    handle = {"session": "outlast-x-001", "job": 7}

    def found(state: str, code: int = 75) -> tuple[str, str]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "end.json").write_text(
            json.dumps({"word": "completed", "message": DOWN, "exit": code, "seconds": 3.0})
        )
        plant("squeue", f"7|{state}|None|{folder / 'job.sh'}\n" if state else "")
        known = provider.state(handle)
        return known.word, known.message

    assert found("CANCELLED") == ("cancelled", "its job was cancelled")
    assert found("CANCELLED", 0) == ("completed", "")
    assert found("COMPLETED") == ("completed", "")
    assert found("") == ("completed", "")
    assert found("COMPLETING")[0] == "saving", "it may still be cancelled"
    assert found("RUNNING", 0) == ("completed", "")


def test_a_session_without_a_job(plant, tmp_path: Path) -> None:
    folder = tmp_path / ".jobs/outlast-x-001"
    folder.mkdir(parents=True)
    plant("squeue")
    provider = SlurmProvider(folder.parent, impatient())
    assert provider.state({"session": "outlast-x-001"}) is None, "never submitted"
    assert provider.state({"session": "outlast-x-001", "job": 7}).word == "lost"
    (folder / "job.json").write_text('{"job": 7, "restarts": 0, "time": 1.0}')
    assert provider.state({"session": "outlast-x-001"}).word == "lost"


def test_a_session_is_cancelled_by_a_signal_and_a_waiting_one_is_removed(plant, tmp_path: Path) -> None:
    folder = tmp_path / ".jobs/outlast-x-001"
    folder.mkdir(parents=True)
    provider = SlurmProvider(folder.parent, impatient())
    handle = {"session": "outlast-x-001", "job": 7}
    calls = plant("scancel")
    plant("squeue", f"7|PENDING|Priority|{folder / 'job.sh'}\n")
    provider.cancel(handle)
    assert calls.read_text() == "7\n"
    plant("squeue", f"7|RUNNING|None|{folder / 'job.sh'}\n")
    provider.cancel(handle)
    provider.cancel(handle)
    assert calls.read_text() == "7\n--signal=USR2 --batch 7\n", "once"
    assert (folder / "cancel").exists()
    assert provider.state(handle).word == "saving"


def test_slurm_that_is_silent_is_asked_again_and_told(plant) -> None:
    calls = plant("squeue", err="slurm_load_jobs error: Unable to contact slurm controller (connect failure)", code=1)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(0.2)

    with messages.raises(LaunchError, "launch/slurm-not-answered", patience=messages.ANY, words=messages.ANY):
        Scheduler(0.3, sleep=sleep).find("outlast-x-001", JOB)
    assert len(calls.read_text().splitlines()) == len(slept) + 1 >= 2
    assert set(slept) == {5.0}
    plant("squeue", err="squeue: error: Invalid user: ada", code=1)
    with messages.raises(LaunchError, "launch/slurm-failed", program="squeue", words="Invalid user: ada"):
        impatient().find("outlast-x-001", JOB)


def test_a_job_that_has_ended_is_cancelled_without_an_error(plant) -> None:
    calls = plant("scancel", err="scancel: error: Kill job error on job id 7: Invalid job id specified", code=1)
    impatient().cancel(7)
    impatient().cancel(7, signal="USR2")
    assert calls.read_text().splitlines() == ["7", "--signal=USR2 --batch 7"]


def test_a_machine_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / ".jobs/outlast-x-001").mkdir(parents=True)
    with messages.raises(UsageError, "launch/no-slurm", program="squeue"):
        connect(tmp_path).state({"session": "outlast-x-001"})


@pytest.mark.parametrize(
    ("flags", "seconds"), [((), 3600.0), (("partition=gpu",), 4 * 3600.0), (("--partition=gpu,cpu",), 3600.0)]
)
def test_a_session_is_as_long_as_its_partition_allows(plant, flags: tuple[str, ...], seconds: float) -> None:
    plant("scontrol", PARTITIONS)
    provider = SlurmProvider(Path("runs/.jobs"), impatient())
    assert provider.limits(Terms(options={"sbatch": list(flags)})).session == seconds
    assert provider.limits(Terms(options={"sbatch": list(flags), "time": 60.0})).session == 60


def test_a_partition_without_a_limit_or_of_another_name(plant) -> None:
    plant("scontrol", PARTITIONS)
    provider = SlurmProvider(Path("runs/.jobs"), impatient())
    with messages.raises(UsageError, "launch/slurm-endless"):
        provider.limits(Terms(options={"sbatch": ["partition=long"]}))
    with messages.raises(UsageError, "launch/slurm-no-partition", what="no partition 'gpus'"):
        provider.limits(Terms(options={"sbatch": ["partition=gpus"]}))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:02:00", 120),
        ("2-00:00:30", 172830),
        ("12:00:00", 43200),
        ("UNLIMITED", None),
        ("NONE", None),
        ("05:30", 330),
        ("9" * 400 + ":00", None),
        ("1-" + "9" * 5000 + ":00:00", None),
        ("-1:00", None),
    ],
)
def test_times_of_slurm(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_flags_of_sbatch() -> None:
    assert flags_of(["partition=gpu", "--gres=gpu:1", "exclusive"]) == [
        "--partition=gpu",
        "--gres=gpu:1",
        "--exclusive",
    ]
    assert partition_of(["partition=a", "mem=4G", "partition=b"]) == "b"
    assert partition_of(["mem=4G"]) is None
    for given in ("-p gpu", "partition=gpu\n#SBATCH --mail-user=x", "gpu:1 --exclusive", ""):
        with messages.raises(UsageError, "launch/sbatch-no-flag", flag=repr(given)):
            flags_of([given])
    for given, why in (("time=5", "give --time"), ("output=x", "leave it out, because outlast sets it")):
        with messages.raises(UsageError, "launch/sbatch-not-taken", flag=given.partition("=")[0], why=why):
            flags_of([given])


def test_the_script(tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" %j/outlast-x-001'
    lines = script("outlast-x-001", folder, 90.0, ["partition=gpu", "comment=two words"]).splitlines()
    quoted = str(folder).replace('"', '\\"')
    assert lines[:11] == [
        "#!/bin/bash",
        "#SBATCH --job-name=outlast-x-001",
        f'#SBATCH --chdir="{quoted}"',
        f'#SBATCH --output="{quoted}/log.txt"'.replace("%j", "%%j"),
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:USR1@12",
        "#SBATCH --time=2",
        "#SBATCH --partition=gpu",
        '#SBATCH "--comment=two words"',
        f"export PYTHONPATH='{folder}/code'${{PYTHONPATH:+:$PYTHONPATH}}",
    ]
    assert lines[11].startswith("exec ")
    assert not any(line.startswith("#SBATCH --time") for line in script("x", folder, None, []).splitlines())
    with messages.raises(UsageError, "launch/slurm-folder", folder=repr("/a\\b")):
        script("x", Path("/a\\b"), None, [])


def test_a_job_inherits_nothing_of_the_job_in_which_it_is_submitted() -> None:
    given = {
        "SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "100", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "ada",
        "OUTLAST_SESSION_ENDS": "1", "OUTLAST_GIT_TOKEN": "x", "OF_THE_USER": "1",
    }  # fmt: skip
    assert variables(given) == {
        "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "ada", "OUTLAST_GIT_TOKEN": "x", "OF_THE_USER": "1",
        "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C.UTF-8",
    }  # fmt: skip


def test_bash_reads_the_script(tmp_path: Path) -> None:
    place = tmp_path / "job.sh"
    place.write_text(script("outlast-x-001", tmp_path / 'it\'s a "b"', 60.0, []))
    done = subprocess.run(["bash", "-n", str(place)], env=dict(os.environ), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_end_before_slurm_started_the_job_again_is_forgotten(plant, tmp_path: Path) -> None:
    """A node's last words may be seen late, after each end."""
    folder = tmp_path / ".jobs/outlast-x-001"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text('{"job": 7, "restarts": 0, "time": 1.0}')
    provider = SlurmProvider(folder.parent, impatient(), late=30.0)
    handle = {"session": "outlast-x-001", "job": 7}

    def word(state: str) -> str:
        plant("squeue", f"7|{state}|None|{folder / 'job.sh'}\n")
        return provider.state(handle).word

    assert word("NODE_FAIL") == "saving"
    os.utime(folder / "unrecorded", (1.0, 1.0))  # long ago
    assert word("PENDING") == "queued"
    assert word("RUNNING") == "running"
    assert word("COMPLETED") == "saving", "its record may still be on its way"
    os.utime(folder / "unrecorded", (1.0, 1.0))
    assert word("COMPLETED") == "lost"
