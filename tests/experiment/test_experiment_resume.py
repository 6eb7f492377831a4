"""An experiment's folder, and how a search that ended early goes on in it."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from small_experiments import distance, make, samples

from lightning_nas.errors import ExperimentError, StoreError
from lightning_nas.experiment import Experiment, SqliteStore
from lightning_nas.space import Float
from lightning_nas.strategies import RegularizedEvolution
from lightning_nas.trial import Status, Trial

# -- the folder --------------------------------------------------------------------------------------


def test_the_best_folder_follows_the_search(tmp_path: Path) -> None:
    seen = []

    def look(candidate, report):
        path = tmp_path / "exp" / "best" / "sample.json"
        seen.append(json.loads(path.read_text())["x"] if path.exists() else None)
        return candidate.sample["x"]

    exp = make(tmp_path, look, max_trials=12).run()
    drawn = [sample["x"] for sample in samples(exp)]
    assert seen == [max(drawn[:n], default=None) for n in range(12)]


def test_a_missing_best_folder_is_made_again(tmp_path: Path) -> None:
    import shutil

    exp = make(tmp_path).run()
    shutil.rmtree(tmp_path / "exp" / "best")
    make(tmp_path).run()
    assert exp.best is not None
    assert json.loads((tmp_path / "exp/best/metrics.json").read_text())["trial"] == exp.best.number


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        ({"model": {"x": Float(0, 1)}}, "its search space also has 'kind'"),
        (
            {"strategy": RegularizedEvolution(population_size=7, sample_size=2)},
            r"its strategy is Random\(.*\), not Reg",
        ),
        ({"objective": "acc"}, "its objective is None, not acc"),
        ({"seed": 3}, "its seed is 0, not 3"),
    ],
)
def test_a_folder_of_another_experiment_is_refused_by_what_differs(
    tmp_path: Path, settings: dict[str, Any], phrase: str
) -> None:
    make(tmp_path, max_trials=1).run()
    with pytest.raises(
        ExperimentError, match=rf"exp holds another experiment: {phrase}.* Give another directory="
    ):
        make(tmp_path, **settings)


def test_a_file_in_place_of_the_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "exp").touch()
    with pytest.raises(ExperimentError, match="exp is a file; give `directory` the path of a folder"):
        make(tmp_path)


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    make(tmp_path).run()
    (tmp_path / "exp" / "experiment.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=r"experiment.db cannot be used"):
        make(tmp_path)


def test_making_an_experiment_writes_nothing(tmp_path: Path) -> None:
    exp = make(tmp_path)
    assert exp.trials == []
    assert exp.best is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    def nest(candidate, report):
        make(tmp_path, distance).run()

    exp = make(tmp_path, nest, max_trials=1).run()
    assert exp.trials[0].reason is not None
    assert "is being worked on by this process" in exp.trials[0].reason


# -- resume ------------------------------------------------------------------------------------------


def test_resume_needs_no_script(tmp_path: Path) -> None:
    make(tmp_path, max_trials=2).run()
    exp = Experiment.resume(tmp_path / "exp", max_trials=4)
    assert len(exp.trials) == 2
    exp.run()
    assert samples(exp) == samples(make(tmp_path / "once", max_trials=4).run())


def test_resume_says_when_there_is_nothing_or_it_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"nothing to resume in .*: it has no experiment.pkl"):
        Experiment.resume(tmp_path)
    make(tmp_path).run()
    (tmp_path / "exp" / "experiment.pkl").write_bytes(b"\x80\x05cno_such_module\nThing\n.")
    with pytest.raises(
        ExperimentError, match=r"experiment.pkl cannot be loaded \(ModuleNotFoundError.*run the script"
    ):
        Experiment.resume(tmp_path / "exp")


def test_what_cannot_be_pickled_is_told_and_does_no_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = threading.Lock()

    def locked(candidate, report):
        with lock:
            return 1.0

    exp = make(tmp_path, locked, max_trials=1, progress=None).run()
    assert exp.trials[0].status is Status.COMPLETED
    assert "Experiment.resume will not work here" in capsys.readouterr().out


def test_unfinished_trials_run_first_with_their_number_and_sample(tmp_path: Path) -> None:
    exp = make(tmp_path, max_trials=4).run()
    undisturbed = samples(exp)
    store = SqliteStore.open(tmp_path / "exp", "write")
    for number, status in ((1, Status.RUNNING), (3, Status.PAUSED)):
        store.write(Trial(number, undisturbed[number], status, started=1.0))
    store.close()
    order = []

    def note(candidate, report):
        order.append((candidate.number, candidate.sample))
        return distance(candidate, report)

    resumed = make(tmp_path, note, max_trials=5).run()
    assert [number for number, _ in order] == [1, 3, 4]
    assert samples(resumed)[:4] == undisturbed
    assert [trial.status.value for trial in resumed.trials] == ["completed"] * 5


def test_a_trial_taken_up_again_learns_of_its_checkpoint_and_keeps_earlier_reports(tmp_path: Path) -> None:
    def learn(candidate, report):
        saved = candidate.directory / "last.ckpt"
        first = int(candidate.resume_from.read_text()) if candidate.resume_from else 0
        for step in range(first, 5):
            report(step, {"acc": step + 10 * first})
            saved.write_text(str(step))
            if step == 2 and not first:
                raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, learn, max_trials=1).run()
    (trial,) = make(tmp_path, learn, max_trials=1).trials
    assert trial.status is Status.PAUSED
    exp = make(tmp_path, learn, max_trials=1).run()
    expected = [(0, 0), (1, 1), (2, 22), (3, 23), (4, 24)]
    for trial in (exp.trials[0], make(tmp_path, learn, max_trials=1).trials[0]):
        assert [(report.step, report.metrics["acc"]) for report in trial.intermediate] == expected


# -- interrupts --------------------------------------------------------------------------------------


def test_ctrl_c_once_lets_the_running_trial_finish(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt(candidate, report):
        if candidate.number == 1:
            signal.raise_signal(signal.SIGINT)
        return 1.0

    exp = make(tmp_path, interrupt, progress=None)
    with pytest.raises(KeyboardInterrupt):
        exp.run()
    assert [trial.status.value for trial in exp.trials] == ["completed", "completed"]
    out, err = capfd.readouterr()
    assert "No new trial starts" in err
    assert "To go on, run the same script with directory=" in out
    assert "Experiment.resume(" in out
    with contextlib.closing(SqliteStore.open(tmp_path / "exp")) as store:
        assert store.runs()[-1]["ended"] == "interrupted"
    assert len(make(tmp_path, distance).run().trials) == 5


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_ctrl_c_twice_or_sigterm_ends_the_running_trial_which_runs_again(
    tmp_path: Path, signals: list[signal.Signals]
) -> None:
    def interrupt(candidate, report):
        if candidate.number == 1:
            for number in signals:
                signal.raise_signal(number)
        return 1.0

    exp = make(tmp_path, interrupt)
    with pytest.raises(KeyboardInterrupt if len(signals) == 2 else SystemExit):
        exp.run()
    assert [trial.status.value for trial in exp.trials] == ["completed", "paused"]
    assert exp.trials[1].reason == "the search broke off; runs again on resume"
    resumed = make(tmp_path, distance).run()
    assert [trial.status.value for trial in resumed.trials] == ["completed"] * 5
    assert samples(resumed) == samples(make(tmp_path / "once").run())


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    make(tmp_path).run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_thread_may_run_an_experiment(tmp_path: Path) -> None:
    exp = make(tmp_path)
    thread = threading.Thread(target=exp.run)
    thread.start()
    thread.join()
    assert len(exp.trials) == 5
