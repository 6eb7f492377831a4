"""Processes that take many trials, hostile trials, output without end, and GPUs dealt out in shares."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from lightning_nas.errors import ExperimentError
from lightning_nas.experiment import Experiment
from lightning_nas.experiment.runners import ProcessRunner, Work
from lightning_nas.experiment.runners.gpus import Share, check_per_trial, shares
from lightning_nas.space import Float
from lightning_nas.strategies import Random
from lightning_nas.testing.runners import Evaluates, ignore, job, run

pytestmark = pytest.mark.usefixtures("warm_server")


@contextmanager
def warm(function, directory: Path, **settings) -> Iterator[ProcessRunner]:
    settings = {"concurrency": 1, "reuse": True, **settings}
    runner = ProcessRunner(Work(Evaluates(function)), directory=directory, **settings)
    try:
        yield runner
    finally:
        runner.close()


def metrics_of(function, directory: Path, number: int, **settings) -> list:
    """The metrics of several trials, one after another."""
    with warm(function, directory, **settings) as runner:
        outcomes = run(runner, [job(directory, n) for n in range(number)])
    return [outcomes[n].metrics for n in range(number)]


# -- reuse -------------------------------------------------------------------------------------------


def test_a_process_takes_many_trials(tmp_path: Path) -> None:
    pids = metrics_of(lambda candidate, report: os.getpid(), tmp_path, 5)
    assert len({each["default"] for each in pids}) == 1
    assert pids[0] != {"default": os.getpid()}


@pytest.mark.parametrize(
    "end",
    [
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: os._exit(0),
        lambda: [][0],
        lambda: threading.Thread(target=time.sleep, args=(60,), daemon=True).start(),
        lambda: subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"]),
    ],
    ids=["killed", "exits", "fails", "leaves a thread", "leaves a process"],
)
def test_a_process_is_replaced_after_a_trial_that_broke_it_and_no_trial_else_is_lost(
    tmp_path: Path, end
) -> None:
    def evaluate(candidate, report):
        if candidate.number == 1:
            end()
        return os.getpid()

    first, second, *others = metrics_of(evaluate, tmp_path, 4)
    assert second in (None, first)
    assert first not in others
    assert others[0] == others[1] is not None


def test_a_trial_finds_everything_as_the_first_one_did(tmp_path: Path) -> None:
    seen: list[int] = []

    def evaluate(candidate, report):
        found = {
            "variable": "LEFT" in os.environ,
            "folder": Path.cwd() == there,
            "path": "left" in sys.path,
            "seen": len(seen),
            "double": torch.get_default_dtype() is torch.float64,
            "grad": torch.is_grad_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "threads": torch.get_num_threads(),
            "printed": sys.stdout is sys.__stdout__,
        }
        os.environ["LEFT"] = "1"
        os.chdir("/")
        sys.path.append("left")
        seen.append(1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(7)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  as careless code does
        return found

    there = Path.cwd()
    first, second, third = metrics_of(evaluate, tmp_path, 3)
    assert first == second == third
    assert (first["variable"], first["folder"], first["grad"]) == (0, 1, 1)


def test_a_trial_draws_what_it_would_in_a_fresh_process(tmp_path: Path) -> None:
    def draw(candidate, report):
        return {"random": random.random(), "torch": float(torch.rand(()))}

    (tmp_path / "fresh").mkdir()
    assert metrics_of(draw, tmp_path, 3) == metrics_of(draw, tmp_path / "fresh", 3, reuse=False)


def test_a_warm_trial_sees_the_environment_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warm(lambda candidate, report: int(os.environ.get("SET_LATER", 0)), tmp_path) as runner:
        before = run(runner, [job(tmp_path, 0)])[0].metrics
        monkeypatch.setenv("SET_LATER", "7")
        assert (before, run(runner, [job(tmp_path, 1)])[1].metrics) == ({"default": 0}, {"default": 7})


def test_each_warm_trial_prints_into_its_own_file(tmp_path: Path) -> None:
    def speak(candidate, report):
        print("python", candidate.number)
        os.write(2, b"c\n")
        return 1.0

    metrics_of(speak, tmp_path, 3)
    texts = [(tmp_path / str(n) / "output.log").read_text() for n in range(3)]
    assert texts == [f"python {n}\nc\n" for n in range(3)]


def test_memory_is_freed_between_trials(tmp_path: Path) -> None:
    def leak(candidate, report):
        import gc

        circle = [torch.ones(3, 5, 7)]
        circle.append(circle)
        return sum(isinstance(each, torch.Tensor) and each.shape == (3, 5, 7) for each in gc.get_objects())

    assert metrics_of(leak, tmp_path, 3) == [{"default": 1}] * 3


def test_an_idle_process_that_dies_costs_nothing(tmp_path: Path) -> None:
    with warm(lambda candidate, report: os.getpid(), tmp_path, concurrency=2) as runner:
        pids = [outcome.metrics["default"] for outcome in run(runner, [job(tmp_path, 0)]).values()]
        while runner.free < 2:
            runner.poll(0.05, ignore)
        os.kill(int(pids[0]), signal.SIGKILL)
        runner.submit(job(tmp_path, 1))
        outcomes = []
        while not outcomes:
            outcomes = runner.poll(0.1, ignore)
        # Given to the dead process it is a crash, which the experiment runs again.
        assert outcomes[0].metrics is not None or outcomes[0].is_crash
        assert run(runner, [job(tmp_path, 2)])[2].metrics is not None


def test_reuse_and_shares_need_processes(tmp_path: Path) -> None:
    for setting in ({"reuse": True}, {"gpus_per_trial": 1}):
        with pytest.raises(ValueError, match="`reuse` and `gpus_per_trial` are for runner='processes'"):
            Experiment({"x": Float(0, 1)}, Evaluates(ignore), Random(), runner="inprocess", **setting)


# -- hostile trials ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reuse", [False, True])
def test_output_without_end_keeps_its_beginning_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reuse: bool
) -> None:
    monkeypatch.setattr("lightning_nas.experiment.runners.processes._OUTPUT_S", 0.05)

    def flood(candidate, report):
        print("the first words")
        for _ in range(100):
            os.write(1, b"\x00\xff\x1b" * 350_000)
            time.sleep(0.005)
        print("the last words")
        return 1.0

    assert metrics_of(flood, tmp_path, 2, reuse=reuse) == [{"default": 1.0}] * 2
    for number in range(2):
        content = (tmp_path / str(number) / "output.log").read_bytes()
        assert len(content) < 70 << 20
        assert content.startswith(b"the first words\n")
        assert b"MiB of output left out here]" in content
        assert content.endswith(b"the last words\n")


@pytest.mark.parametrize("reuse", [False, True])
def test_a_report_after_the_end_is_refused_and_said(tmp_path: Path, reuse: bool) -> None:
    def late(candidate, report):
        def go_on():
            time.sleep(0.1)
            report(9, {"default": 9.0})

        threading.Thread(target=go_on).start()
        return 1.0

    reports: list[int] = []

    def note(number, step, metrics):
        reports.append(step)
        return True

    with warm(late, tmp_path, reuse=reuse) as runner:
        assert run(runner, [job(tmp_path, 0)], note)[0].metrics == {"default": 1.0}
        while runner.free == 0:
            runner.poll(0.05, note)
    assert reports == []
    text = (tmp_path / "0" / "output.log").read_text()
    assert "Trial 0 has ended; its report at step 9 came too late." in text


def test_threads_may_report_at_the_same_time(tmp_path: Path) -> None:
    def report_in_threads(candidate, report):
        answers: list[bool] = []

        def some(start):
            answers.extend(report(start + step, {"x": 1.0}) for step in range(20))

        threads = [threading.Thread(target=some, args=(100 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(answers)

    assert metrics_of(report_in_threads, tmp_path, 2) == [{"default": 80}] * 2


def test_in_this_process_other_threads_are_told_that_they_cannot_report(tmp_path: Path) -> None:
    told: list[str] = []

    def report_in_a_thread(candidate, report):
        def once():
            try:
                report(0, {"x": 1.0})
            except RuntimeError as error:
                told.append(str(error))

        thread = threading.Thread(target=once)
        thread.start()
        thread.join()
        return 1.0

    search = Experiment(
        {"x": Float(0, 1)},
        Evaluates(report_in_a_thread),
        Random(),
        directory=tmp_path,
        max_trials=1,
        runner="inprocess",
        progress=False,
    )
    assert search.run().trials[0].metrics == {"default": 1.0}
    assert told == [
        "With runner='inprocess' a trial must report from the thread that its evaluator was called in."
    ]


@pytest.mark.slow
def test_a_killed_server_costs_an_attempt_of_the_running_trials_and_is_replaced(tmp_path: Path) -> None:
    def sleep(candidate, report):
        report(0, {"pid": os.getpid()})
        time.sleep(0 if candidate.number else 60)
        return {"server": os.getppid()}

    pids: list[int] = []

    def note(number, step, metrics):
        pids.append(int(metrics["pid"]))
        return True

    with warm(sleep, tmp_path, concurrency=2) as runner:
        server = run(runner, [job(tmp_path, 1)], note)[1].metrics["server"]
        runner.submit(job(tmp_path, 0))
        while len(pids) < 2:
            runner.poll(0.1, note)
        os.kill(int(server), signal.SIGKILL)
        outcomes = []
        while not outcomes:
            outcomes = runner.poll(0.1, note)
        assert (outcomes[0].metrics, outcomes[0].is_crash) == (None, True)
        after = run(runner, [job(tmp_path, 2)])[2]
        assert after.reason is None, after
        assert after.metrics["server"] != server
    status = Path(f"/proc/{pids[1]}/status")  # killed, though perhaps not yet waited for
    assert not status.exists() or "\nState:\tZ" in status.read_text()


def test_a_fork_that_comes_back_or_reports_does_not_speak_for_the_trial(tmp_path: Path) -> None:
    def fork(candidate, report):
        pid = os.fork()
        if pid == 0:
            report(0, {"x": 1.0})
            return 2.0
        os.waitpid(pid, 0)
        return 1.0

    assert metrics_of(fork, tmp_path, 2) == [{"default": 1.0}] * 2


def test_a_daemon_that_a_trial_leaves_holds_nothing_up(tmp_path: Path) -> None:
    daemons = tmp_path / "daemons"

    def start_a_daemon(candidate, report):
        daemon = os.fork()
        if daemon == 0:
            os.setsid()
            time.sleep(300)
            os._exit(0)
        with daemons.open("a") as file:
            file.write(f"{daemon}\n")
        return 1.0

    assert metrics_of(start_a_daemon, tmp_path, 2) == [{"default": 1.0}] * 2
    for daemon in daemons.read_text().split():
        os.kill(int(daemon), signal.SIGKILL)  # it is there: no one has waited for it, nor ended it


def test_a_trial_that_ignores_sigterm_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_nas.experiment.runners.processes._TERM_S", 0.2)

    def ignore_it(candidate, report):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        report(0, {"x": 1.0})
        time.sleep(60)

    heard: list[int] = []

    def note(number, step, metrics):
        heard.append(number)
        return True

    with warm(ignore_it, tmp_path) as runner:
        runner.submit(job(tmp_path, 0))
        while not heard:
            runner.poll(0.1, note)
        runner.cancel(0)
        assert runner.free == 1


@pytest.mark.parametrize(
    ("step", "value", "reason"),
    [
        ("one", 1.0, "MetricError: The step of a report must be an integer of at least 0, but got 'one'."),
        (0.5, 1.0, "MetricError: The step of a report must be an integer of at least 0, but got 0.5."),
        (
            0,
            {"x": None},
            "MetricError: A result must be a number or a dict of numbers, but 'x' is of type NoneType.",
        ),
    ],
)
def test_reports_of_the_wrong_type_are_failures_that_say_so(tmp_path: Path, step, value, reason) -> None:
    with warm(lambda candidate, report: report(step, value), tmp_path) as runner:
        assert run(runner, [job(tmp_path, 0)])[0].reason == reason


# -- GPUs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "per_trial", "concurrency", "expected"),
    [
        ([], None, 2, [Share()] * 2),
        (["0"], None, 2, [Share()] * 2),
        (["4", "6"], None, 3, [Share("4"), Share("6"), Share("4")]),
        (["4", "6"], 0, 2, [Share("")] * 2),
        (["4", "6"], 1, 3, [Share("4"), Share("6")]),
        (["4", "6"], 0.5, 9, [Share("4", 0.5), Share("6", 0.5)] * 2),
        (["0"], 0.1, 99, [Share("0", 0.1)] * 10),
        (["0"], 0.4, 99, [Share("0", 0.4)] * 2),
        (["0", "1", "2", "3", "4"], 2, 9, [Share("0,1"), Share("2,3")]),
    ],
)
def test_gpus_are_dealt_out(gpus, per_trial, concurrency, expected) -> None:
    assert shares(gpus, per_trial, concurrency) == expected


def test_too_few_gpus_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        ExperimentError, match=r"gpus_per_trial=2 needs more GPUs than are visible here \(4\)"
    ):
        shares(["4"], 2, 1)
    with pytest.raises(ExperimentError, match=r"gpus_per_trial=0.5 .* \(none\)"):
        ProcessRunner(Work(Evaluates(ignore)), 1, tmp_path, (), 0.5)


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", True, float("nan")])
def test_a_wrong_number_of_gpus_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="`gpus_per_trial` must be"):
        check_per_trial(wrong)


def test_there_are_no_more_trials_at_once_than_gpus_for_them(tmp_path: Path) -> None:
    def which(candidate, report):
        return int(os.environ["CUDA_VISIBLE_DEVICES"].replace(",", ""))

    with warm(which, tmp_path, concurrency=4, gpus=["1", "2", "3", "4"], gpus_per_trial=2) as runner:
        assert runner.free == 2
        outcomes = run(runner, [job(tmp_path, number) for number in range(6)])
    assert {outcome.metrics["default"] for outcome in outcomes.values()} <= {12, 34}


@pytest.mark.gpu
def test_half_a_gpu_is_half_of_its_memory(tmp_path: Path) -> None:
    def take(candidate, report):
        total = torch.cuda.get_device_properties(0).total_memory
        taken = torch.empty(int(total * candidate.sample["share"]), dtype=torch.uint8, device="cuda")
        return taken.numel()

    with warm(take, tmp_path, gpus=["0"], gpus_per_trial=0.5) as runner:
        outcomes = run(runner, [job(tmp_path, 0, share=0.4), job(tmp_path, 1, share=0.6)])
    assert outcomes[0].metrics is not None
    assert outcomes[1].reason.startswith("Out of memory: OutOfMemoryError")
