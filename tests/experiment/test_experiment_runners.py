"""The published suite for the two runners, and what is the process runner's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from other_processes import has_ended, run_script
from torch.utils.data import DataLoader

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment.runners import InProcessRunner, Job, Outcome, ProcessRunner, Runner, Work
from lightning_nas.testing.runners import Evaluates, RunnerSuite, ignore, job, run

pytestmark = pytest.mark.usefixtures("warm_server")


class TestInProcess(RunnerSuite):
    def make(self, work: Work, directory: Path) -> Runner:
        return InProcessRunner(work)


class TestProcesses(RunnerSuite):
    def make(self, work: Work, directory: Path) -> Runner:
        return ProcessRunner(work, 2, directory)


class TestProcessesForManyTrials(RunnerSuite):
    def make(self, work: Work, directory: Path) -> Runner:
        return ProcessRunner(work, 2, directory, reuse=True)


def evaluate(function, directory: Path, **settings) -> Outcome:
    """The outcome of one trial that calls `function` in a process."""
    runner = ProcessRunner(Work(Evaluates(function)), settings.pop("concurrency", 1), directory, **settings)
    try:
        return run(runner, [job(directory, 0)])[0]
    finally:
        runner.close()


def test_trials_run_in_processes_of_their_own(tmp_path: Path) -> None:
    runner = ProcessRunner(Work(Evaluates(lambda candidate, report: os.getpid())), 2, tmp_path)
    outcomes = run(runner, [job(tmp_path, number) for number in range(3)])
    runner.close()
    pids = {outcome.metrics["default"] for outcome in outcomes.values()}
    assert len(pids | {os.getpid()}) == 4


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed (SIGKILL)"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "crashed with SIGSEGV"),
        (lambda: os._exit(3), "ended with exit code 3 before it had a result"),
    ],
)
def test_a_crash_costs_one_trial_and_says_why(tmp_path: Path, end, reason: str) -> None:
    def crash(candidate, report):
        report(0, {"x": 1.0})
        print("the last words")
        end()

    outcome = evaluate(crash, tmp_path)
    assert outcome.metrics is None
    assert reason in outcome.reason
    assert "the last words" in outcome.traceback


def test_a_segmentation_fault_leaves_the_line_it_happened_on(tmp_path: Path) -> None:
    def fault(candidate, report):
        os.kill(os.getpid(), signal.SIGSEGV)

    assert "in fault" in evaluate(fault, tmp_path).traceback


def test_output_of_python_of_c_and_of_children_is_in_the_trials_folder(tmp_path: Path) -> None:
    def speak(candidate, report):
        print("from print")
        os.write(1, b"from write\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        print("from stderr", file=sys.stderr)
        return 1.0

    evaluate(speak, tmp_path)
    lines = (tmp_path / "0" / "output.log").read_text().splitlines()
    assert lines == ["from print", "from write", "from a child", "from stderr"]


def test_the_cores_are_shared_among_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("lightning_nas.experiment.runners.processes._cores", lambda: 6)
    outcome = evaluate(lambda candidate, report: torch.get_num_threads(), tmp_path, concurrency=2)
    assert outcome.metrics == {"default": 3}


def test_the_users_own_number_of_threads_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("lightning_nas.experiment.runners.processes._cores", lambda: 6)
    outcome = evaluate(lambda candidate, report: int(os.environ["OMP_NUM_THREADS"]), tmp_path)
    assert outcome.metrics == {"default": 1}


def test_a_trial_sees_the_environment_of_now_and_not_of_the_servers_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET_LATER", "7")
    monkeypatch.chdir(tmp_path)

    def look(candidate, report):
        return {"variable": int(os.environ["SET_LATER"]), "folder": Path.cwd() == tmp_path}

    assert evaluate(look, tmp_path).metrics == {"variable": 7, "folder": 1}


def test_each_of_several_gpus_is_dealt_to_one_trial(tmp_path: Path) -> None:
    def which(candidate, report):
        time.sleep(0.1)
        return int(os.environ["CUDA_VISIBLE_DEVICES"])

    runner = ProcessRunner(Work(Evaluates(which)), 2, tmp_path, gpus=["4", "6"])
    outcomes = run(runner, [job(tmp_path, number) for number in range(2)])
    runner.close()
    assert sorted(outcome.metrics["default"] for outcome in outcomes.values()) == [4, 6]


@pytest.mark.slow
def test_convolutions_and_data_workers_work_in_a_forked_trial(tmp_path: Path) -> None:
    def train(candidate, report):
        batches = DataLoader(torch.ones(8, 1, 9, 9), batch_size=4, num_workers=1)
        convolution = torch.nn.Conv2d(1, 2, 3)
        for batch in batches:
            convolution(batch).sum().backward()
        return len(batches)

    assert evaluate(train, tmp_path).metrics == {"default": 2}


def test_an_evaluator_that_cannot_be_sent_is_told_at_once(tmp_path: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(
        ExperimentError, match=r"cannot be sent .*cannot pickle '_thread.lock'.* runner='inprocess'"
    ):
        ProcessRunner(Work(Evaluates(lambda candidate, report: lock)), 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_evaluator_that_cannot_be_loaded_is_a_failure(tmp_path: Path) -> None:
    def complain():
        raise ModuleNotFoundError("No module named 'mine'")

    class Unloadable:
        def evaluate(self, candidate, report):
            return 1.0

        def __reduce__(self):
            return complain, ()

    runner = ProcessRunner(Work(Unloadable()), 1, tmp_path)
    outcome = run(runner, [job(tmp_path, 0)])[0]
    runner.close()
    assert outcome.reason == "ModuleNotFoundError: No module named 'mine'"


def test_cancelling_ends_a_running_trial_and_what_it_started(tmp_path: Path) -> None:
    def start_a_child(candidate, report):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        report(0, {"pid": child.pid})
        child.wait()

    pids: list[int] = []

    def note(number, step, metrics):
        pids.append(int(metrics["pid"]))
        return True

    runner = ProcessRunner(Work(Evaluates(start_a_child)), 1, tmp_path)
    runner.submit(job(tmp_path, 0))
    while not pids:
        runner.poll(1.0, note)
    runner.cancel(0)
    assert runner.free == 1
    runner.close()
    assert has_ended(pids[0])


def test_a_trial_that_lingers_after_its_outcome_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_nas.experiment.runners.processes._EXIT_S", 0.2)

    def linger(candidate, report):
        threading.Thread(target=time.sleep, args=(60,)).start()
        return 1.0

    runner = ProcessRunner(Work(Evaluates(linger)), 1, tmp_path)
    assert run(runner, [job(tmp_path, 0)])[0].metrics == {"default": 1.0}
    assert runner.free == 0
    deadline = time.monotonic() + 10
    while runner.free == 0 and time.monotonic() < deadline:
        runner.poll(0.05, ignore)
    assert runner.free == 1
    runner.close()


@pytest.mark.slow
def test_the_trial_of_a_killed_driver_ends_with_it(tmp_path: Path) -> None:
    script = """
        import os, signal, sys, time
        from pathlib import Path
        from lightning_nas.experiment.runners import Job, ProcessRunner, Work

        class Sleeper:
            def evaluate(self, candidate, report):
                report(0, {"pid": os.getpid()})
                time.sleep(60)

        def die(number, step, metrics):
            print(int(metrics["pid"]), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        directory = Path(sys.argv[1])
        runner = ProcessRunner(Work(Sleeper()), 1, directory)
        runner.submit(Job(0, {}, directory / "0", 0))
        while True:
            runner.poll(1, die)
    """
    done = run_script(script, tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert has_ended(int(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script", "stdin", "module"])
def test_programs_without_a_main_guard_work_however_they_are_started(tmp_path: Path, how: str) -> None:
    (tmp_path / "helper.py").write_text("def half(x):\n    return x / 2\n")
    program = textwrap.dedent("""
        from pathlib import Path
        import helper
        from lightning_nas.experiment.runners import ProcessRunner, Work
        from lightning_nas.testing.runners import job, run

        FACTOR = 3
        print("once")

        class Mine:
            def evaluate(self, candidate, report):
                return helper.half(candidate.sample["x"]) * FACTOR

        here = Path.cwd()
        runner = ProcessRunner(Work(Mine()), 1, here)
        print(run(runner, [job(here, 0, x=4)])[0].metrics)
        runner.close()
    """)
    (tmp_path / "program.py").write_text(program)
    arguments = {"script": ["program.py"], "stdin": ["-"], "module": ["-m", "program"]}[how]
    done = subprocess.run(
        [sys.executable, *arguments],
        input=program,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["once", "{'default': 6.0}"], done.stderr


def test_a_job_is_small_however_large_the_evaluator() -> None:
    import pickle

    assert len(pickle.dumps(Job(0, {"x": 1}, Path("/trials/0"), 0))) < 1000
