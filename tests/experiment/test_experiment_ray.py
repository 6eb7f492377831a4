"""Ray: the suite of all runners on two nodes, and what is its own: nodes that die, or share no folder."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from other_processes import has_ended, printed_by, run_script

from lightning_nas import Experiment, Float, Ray, Status, strategies
from lightning_nas.errors import ExperimentError
from lightning_nas.experiment import SqliteStore
from lightning_nas.experiment.runners import Job, RayRunner, Runner, Work, ray_cluster, ray_slot, shipping
from lightning_nas.testing.runners import Evaluates, RunnerSuite, ignore, job, reports_ten_times, run

pytest.importorskip("ray", reason="Ray is not installed: pip install 'lightning-nas[ray]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("without_torch"),
    # Ray 2.40 does not close the logs of the nodes it starts.
    pytest.mark.filterwarnings("ignore:unclosed file .*/ray/session:ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimpleNamespace]:
    """Two nodes with a CPU each, to which this process is connected; a dead node is noticed in seconds."""
    import ray
    from ray.cluster_utils import Cluster

    environment = dict(os.environ)
    handler = signal.getsignal(signal.SIGTERM)
    health = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 1000,
        "health_check_failure_threshold": 5,
    }
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": health}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    second = nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
    yield SimpleNamespace(
        address=nodes.address, lose_node=lambda: nodes.remove_node(second, allow_graceful=False)
    )
    ray.shutdown()
    nodes.shutdown()
    signal.signal(signal.SIGTERM, handler)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares each slot the import of torch, which no trial here needs."""
    monkeypatch.setattr(ray_cluster, "preloaded", lambda: ())


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes do not see the experiment's folder."""
    token = ray_cluster._token

    @contextmanager
    def unseen(directory: Path) -> Iterator[Any]:
        with token(directory) as driver:
            yield type(driver)(**{**vars(driver), "token": directory / "elsewhere"})

    monkeypatch.setattr(ray_cluster, "_token", unseen)


@pytest.mark.usefixtures("cluster")
class TestRay(RunnerSuite):
    def make(self, work: Work, directory: Path) -> Runner:
        return RayRunner(work, 2, directory)


def runner_of(function: Any, directory: Path, concurrency: int | None = 1) -> closing[RayRunner]:
    return closing(RayRunner(Work(Evaluates(function)), concurrency, directory))


def test_a_crash_costs_one_trial_and_not_its_slot(cluster: SimpleNamespace, tmp_path: Path) -> None:
    def crash(candidate, report):
        if candidate.number == 0:
            print("the last words", flush=True)
            os._exit(3)
        return 1.0

    with runner_of(crash, tmp_path) as runner:
        outcomes = run(runner, [job(tmp_path, number) for number in range(2)])
    assert outcomes[0].reason == "The trial's process ended with exit code 3 before it had a result."
    assert "the last words" in outcomes[0].traceback
    assert outcomes[1].metrics == {"default": 1.0}


def test_cancelling_ends_a_trial_with_what_it_started_and_keeps_its_slot(
    cluster: SimpleNamespace, tmp_path: Path
) -> None:
    def start_a_child(candidate, report):
        if candidate.number == 1:
            return 1.0
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        report(0, {"pid": child.pid})
        return child.wait()

    pids: list[int] = []

    def note(number, step, metrics):
        pids.append(int(metrics["pid"]))
        return True

    with runner_of(start_a_child, tmp_path) as runner:
        runner.submit(job(tmp_path, 0))
        while not pids:
            runner.poll(1.0, note)
        runner.cancel(0)
        assert has_ended(pids[0])
        assert run(runner, [job(tmp_path, 1)])[1].metrics == {"default": 1.0}


def test_a_report_does_not_wait_until_the_driver_looks_again(
    cluster: SimpleNamespace, tmp_path: Path
) -> None:
    def usual_answer(candidate, report):
        seconds = []
        for step in range(50):
            began = time.monotonic()
            report(step, {"x": 0.0})
            seconds.append(time.monotonic() - began)
        return statistics.median(seconds)

    with runner_of(usual_answer, tmp_path) as runner:
        assert run(runner, [job(tmp_path, 0)])[0].metrics["default"] < 0.2


def test_a_slot_that_died_while_idle_costs_no_trial(cluster: SimpleNamespace, tmp_path: Path) -> None:
    import ray

    with runner_of(reports_ten_times, tmp_path) as runner:
        (slot,) = runner._slots
        ray.kill(slot.actor)
        time.sleep(0.5)
        assert run(runner, [job(tmp_path, 0)])[0].metrics == {"default": 10.0}


def test_without_a_number_there_are_as_many_trials_as_there_is_room_for(
    cluster: SimpleNamespace, tmp_path: Path
) -> None:
    with runner_of(reports_ten_times, tmp_path, concurrency=None) as runner:
        assert runner.free == 2


@pytest.mark.usefixtures("apart")
def test_without_a_shared_folder_files_come_back_and_go_along_on_resume(
    cluster: SimpleNamespace, tmp_path: Path
) -> None:
    driver = str(tmp_path)

    def works(candidate, report):
        assert not str(candidate.directory).startswith(driver)
        assert len(list(candidate.directory.parent.iterdir())) == 1  # nothing piles up on the node
        checkpoint = candidate.directory / "checkpoint"
        if candidate.resume_from is None:
            print("first attempt")
            (candidate.directory / "logs").mkdir()
            (candidate.directory / "logs" / "first").touch()
            checkpoint.write_bytes(bytes(range(256)) * 80_000)  # three parts
        else:
            assert candidate.resume_from == checkpoint
            assert checkpoint.read_bytes() == bytes(range(256)) * 80_000
            (candidate.directory / "logs" / "first").unlink()
            checkpoint.write_text("further")
        return 1.0

    folder = tmp_path / "0"
    with runner_of(works, tmp_path) as runner:
        assert run(runner, [job(tmp_path, 0)])[0].metrics == {"default": 1.0}
        assert (folder / "checkpoint").read_bytes() == bytes(range(256)) * 80_000
        assert (folder / "output.log").read_text() == "first attempt\n"
        assert (folder / "logs" / "first").exists()
        assert run(runner, [job(tmp_path, 1)])[1].metrics == {"default": 1.0}
        again = Job(0, {}, folder, 0, resume_from=folder / "checkpoint")
        assert run(runner, [again])[0].metrics == {"default": 1.0}
    assert (folder / "checkpoint").read_text() == "further"
    assert sorted(shipping.snapshot(folder)) == ["checkpoint", "output.log", "pid", "usage.json"]


def test_the_trials_of_a_killed_driver_end_with_it(cluster: SimpleNamespace, tmp_path: Path) -> None:
    script = """
        import os, signal, sys, time
        from pathlib import Path
        from lightning_nas.experiment.runners import Job, Ray, RayRunner, Work

        class Sleeper:
            def evaluate(self, candidate, report):
                report(0, {"pid": os.getpid()})
                time.sleep(60)

        def die(number, step, metrics):
            print(int(metrics["pid"]), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        directory = Path(sys.argv[1])
        runner = RayRunner(Work(Sleeper()), 1, directory, Ray(address=sys.argv[2]))
        runner.submit(Job(0, {}, directory / "0", 0))
        while True:
            runner.poll(1, die)
    """
    done = run_script(script, tmp_path, cluster.address)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert has_ended(int(done.stdout))


def test_a_ray_that_is_started_waits_for_no_workers_that_no_trial_needs(tmp_path: Path) -> None:
    # It would wait for ever, if one died meanwhile or took more than a minute.
    script = """
        import os, subprocess, sys
        os.environ["RAY_ADDRESS"] = "local"
        from pathlib import Path
        from lightning_nas.experiment.runners import RayRunner, Work

        def children(pid):
            found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True)
            lines = [line.strip().split(None, 1) for line in found.stdout.splitlines()]
            return [args for _, args in lines] + [each for child, _ in lines for each in children(int(child))]

        runner = RayRunner(Work(None), 1, Path(sys.argv[1]))
        print([args for args in children(os.getpid()) if args == "ray::IDLE"])
        runner.close()
    """
    assert printed_by(script, tmp_path).strip() == "[]"


def test_trials_end_once_another_driver_has_the_folder(cluster: SimpleNamespace, tmp_path: Path) -> None:
    """So it is with Ray's client, whose actors outlive their driver for half a minute."""

    def sleeps(candidate, report):
        report(0, {"pid": os.getpid()})
        time.sleep(60)

    pids: list[int] = []

    def note(number, step, metrics):
        pids.append(int(metrics["pid"]))
        return True

    with runner_of(sleeps, tmp_path) as runner:
        runner.submit(job(tmp_path, 0))
        while not pids:
            runner.poll(1.0, note)
        (tmp_path / ".ray-driver").write_text("another")
        assert has_ended(pids[0])


def test_a_shared_folder_that_falters_ends_no_trial_and_no_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([True, OSError("stale handle"), True, False])

    def is_seen() -> bool:
        each = next(seen)
        if isinstance(each, OSError):
            raise each
        return each

    def ends(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(ray_slot, "_TOKEN_S", 0.0)
    monkeypatch.setattr("os._exit", ends)
    slot = SimpleNamespace(_driver=SimpleNamespace(is_seen=is_seen), _home=tmp_path)
    with pytest.raises(SystemExit):
        ray_slot.Slot._end_with_the_driver(slot)
    assert list(seen) == []


def test_what_cannot_be_sent_is_said_before_anything_starts(cluster: SimpleNamespace, tmp_path: Path) -> None:
    import threading

    lock = threading.Lock()
    with pytest.raises(ExperimentError, match=r"cannot be sent to Ray \(TypeError: .*lock"):
        RayRunner(Work(Evaluates(lambda candidate, report: lock)), 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_than_any_node_has_is_said_while_one_waits(
    cluster: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(RayRunner(Work(Evaluates(ignore)), 1, tmp_path, Ray(gpus_per_trial=4))) as runner:
        assert (runner.free, runner.poll(0.05, ignore)) == (0, [])
    assert "A trial needs 1 CPUs and 4 GPUs on one node, but no node of this Ray has that" in caplog.text


class Climbs:
    """Says which node it runs on, and takes a second or two."""

    def evaluate(self, candidate, report):
        node = int(os.environ["RAY_RAYLET_PID"])
        for step in range(8):
            if not report(step, {"default": candidate.sample["x"], "node": node}):
                break
            time.sleep(0.15)
        return {"default": candidate.sample["x"], "node": node}


# The last on the cluster: only one node is left then.
def test_a_node_is_lost_and_the_experiment_completes(cluster: SimpleNamespace, tmp_path: Path) -> None:
    nodes: set[float] = set()

    class LosesANode:
        def decide(self, trial, trials):
            both = len(nodes) == 2
            nodes.add(trial.intermediate[-1].metrics["node"])
            if len(nodes) == 2 and not both:
                cluster.lose_node()
            return "go"

    exp = Experiment(
        {"x": Float(0, 1)},
        Climbs(),
        strategies.Random(),
        directory=tmp_path / "exp",
        max_trials=4,
        objective="default",
        stopping=LosesANode(),
        runner="ray",
        progress=False,
    ).run()
    assert len(nodes) == 2
    assert len(exp.trials) == 4
    assert [trial.status for trial in exp.trials] == [Status.COMPLETED] * 4
    with closing(SqliteStore.open(exp.directory)) as store:
        changes = [change for trial in exp.trials for change in store.changes(trial.number)]
    lost = [change for change in changes if "Runs again" in (change.reason or "")]
    assert len(lost) == 1
    assert re.match(r"The trial's node (was lost|cannot be reached) \(", lost[0].reason)
    assert not (exp.directory / ".ray-driver").exists()


# -- without a cluster -----------------------------------------------------------------------------


def test_an_address_at_which_nothing_answers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(ExperimentError, match=f"There is no Ray at {address} .*refused"):
            RayRunner(Work(Evaluates(ignore)), 1, tmp_path, Ray(address=address))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with pytest.raises(ExperimentError, match=r"There is no Ray at 127\.0\.0\.1:2"):
        RayRunner(Work(Evaluates(ignore)), 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExperimentError, match=r"pip install 'lightning-nas\[ray\]'"):
        Experiment({"x": Float(0, 1)}, Climbs(), strategies.Random(), directory=tmp_path, runner="ray")


def test_words_that_are_no_runner_are_refused(tmp_path: Path) -> None:
    for word in ("rays", "ray://head", "head", 3):
        with pytest.raises(ValueError, match=f"`runner` must be 'processes', .* got {word!r}"):
            Experiment({"x": Float(0, 1)}, Climbs(), strategies.Random(), directory=tmp_path, runner=word)
    with pytest.raises(ValueError, match="None is for Ray"):
        Experiment({"x": Float(0, 1)}, Climbs(), strategies.Random(), directory=tmp_path, concurrency=None)


def test_impossible_shares_are_refused() -> None:
    for wrong in ({"cpus_per_trial": 0}, {"gpus_per_trial": -1}, {"gpus_per_trial": 1.5}):
        with pytest.raises(ValueError, match="must hold, but got"):
            Ray(**wrong)
    assert Ray.named("ray://head:10001") == Ray(address="ray://head:10001")
    assert Ray.named("ray") == Ray()


def test_the_difference_of_two_folders_makes_one_the_other(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for name, size in {"empty": 0, "deep/down": 5, "big": (8 << 20) + 1, "exact": 8 << 20}.items():
        (ours / name).parent.mkdir(parents=True, exist_ok=True)
        (ours / name).write_bytes(os.urandom(size))
    first = shipping.snapshot(ours)
    for part in shipping.changes(ours, {}, first):
        shipping.write(theirs, part)
    assert contents(theirs) == contents(ours)
    (ours / "empty").unlink()
    (ours / "deep/down").write_text("longer than before")
    second = shipping.snapshot(ours)
    changes = list(shipping.changes(ours, first, second))
    assert {part.name for part in changes} == {"empty", "deep/down"}
    for part in changes:
        shipping.write(theirs, part)
    assert contents(theirs) == contents(ours)


def contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in shipping.snapshot(directory)}
