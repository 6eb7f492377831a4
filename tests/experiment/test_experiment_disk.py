"""Disks: weights that nobody will ask for are deleted, and a full disk costs no trial."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lightning_nas.errors import ExperimentError, StoreError
from lightning_nas.experiment import Experiment, SqliteStore, folder, loop
from lightning_nas.space import Categorical
from lightning_nas.stopping import ASHA
from lightning_nas.strategies import GridSearch
from lightning_nas.trial import Status

SCORES = [3, 1, 4, 0, 5, 2]


class Trains:
    """Scores a sample by its place in SCORES and leaves weights and checkpoints, as Lightning does."""

    max_steps = 2

    def evaluate(self, candidate: Any, report: Any) -> dict[str, float]:
        score = SCORES[candidate.sample["x"]]
        (candidate.directory / "weights.pt").write_text(str(score))
        (candidate.directory / "checkpoints").mkdir(exist_ok=True)
        for name in ("last.ckpt", "epoch=1.ckpt"):
            (candidate.directory / "checkpoints" / name).write_text("")
        if score == 0:
            raise RuntimeError("no good")
        for step in range(2):
            if not report(step, {"acc": score}):
                (candidate.directory / "checkpoint").write_text("")
                break
        return {"acc": score}


def experiment(directory: Path, **settings: Any) -> Experiment:
    space = {"x": Categorical(list(range(len(SCORES)))), "page": Categorical(["." * 5000])}
    return Experiment(
        space, Trains(), GridSearch(), directory=directory, runner="inprocess", progress=False, **settings
    )


def with_weights(directory: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in (directory / "trials").glob("*/weights.pt"))


def with_checkpoints(directory: Path) -> list[int]:
    return sorted(
        {int(path.relative_to(directory).parts[1]) for path in directory.glob("trials/*/**/*.ckpt")}
    )


def test_only_the_best_keep_their_weights_and_what_went_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exp = experiment(tmp_path, keep_weights=2)
    exp._settings["progress"] = None
    exp.run()
    assert with_weights(tmp_path) == with_checkpoints(tmp_path) == [2, 4]
    deleted = {trial.number: trial.artifacts.get("deleted") for trial in SqliteStore.open(tmp_path).trials()}
    gone = "checkpoints/epoch=1.ckpt, checkpoints/last.ckpt, weights.pt"
    assert deleted == {0: gone, 1: gone, 2: None, 3: gone, 4: None, 5: gone}
    assert "kept of the best 2 trials (keep_weights); those of 4 were deleted" in " ".join(
        capsys.readouterr().out.split()
    )
    assert (tmp_path / "best" / "weights.pt").read_text() == "5"


def test_none_keeps_all_and_a_smaller_number_tidies_up_later(tmp_path: Path) -> None:
    experiment(tmp_path, keep_weights=None).run()
    assert with_weights(tmp_path) == [0, 1, 2, 3, 4, 5]
    experiment(tmp_path, keep_weights=1, max_trials=6).run()
    assert with_weights(tmp_path) == [4]


def test_paused_trials_keep_their_checkpoints(tmp_path: Path) -> None:
    exp = experiment(tmp_path, keep_weights=1, stopping=ASHA(2), max_trials=6).run()
    held = [trial.number for trial in exp.trials if trial.status is Status.PAUSED]
    assert held
    assert set(held) <= set(with_checkpoints(tmp_path))


def test_a_link_to_a_checkpoint_elsewhere_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "pretrained.ckpt"
    kept.write_text("")
    exp = experiment(tmp_path / "exp", max_trials=0).run()
    (exp.directory / "trials" / "0").mkdir()
    (exp.directory / "trials" / "0" / "link.ckpt").symlink_to(kept)
    experiment(tmp_path / "exp", keep_weights=1).run()
    assert kept.exists()


class Disk(NamedTuple):
    free: float


def full_after(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """Makes the disk seem full from the given look at it on."""
    left = iter([1e12] * looks)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(next(left, 1e6)))


def test_a_full_disk_ends_the_search_and_making_room_lets_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [trial.sample for trial in experiment(tmp_path / "whole").run().trials]
    with monkeypatch.context() as patch:
        full_after(patch, 2)
        with pytest.raises(ExperimentError, match=r"less than 100 MB are free .* Nothing is lost; make room"):
            experiment(tmp_path / "full").run()
    assert 0 < len(SqliteStore.open(tmp_path / "full").trials()) < len(whole)
    assert [trial.sample for trial in experiment(tmp_path / "full").run().trials] == whole


class MeetsAFullDisk(Trains):
    def evaluate(self, candidate: Any, report: Any) -> dict[str, float]:
        if (candidate.directory.parent.parent / "full").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().evaluate(candidate, report)


def test_a_trial_that_fails_on_a_full_disk_runs_again_and_does_not_count_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").touch()
    space = {"x": Categorical([0, 1, 2])}

    def search() -> Experiment:
        return Experiment(
            space, MeetsAFullDisk(), GridSearch(), directory=tmp_path, runner="inprocess", progress=False
        )

    with monkeypatch.context() as patch:
        full_after(patch, 2)  # before the trial starts; its outcome comes with the third look
        with pytest.raises(ExperimentError, match="less than 100 MB"):
            search().run()
    [trial] = SqliteStore.open(tmp_path).trials()
    assert (trial.status, trial.reason) == (Status.PAUSED, "the search broke off; runs again on resume")
    (tmp_path / "full").unlink()
    assert [trial.status for trial in search().run().trials] == [Status.COMPLETED] * 3


def test_a_best_folder_that_cannot_be_written_does_not_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(directory: Path, trial: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "keep_best", refuses)
        assert len(experiment(tmp_path).run().trials) == len(SCORES)
    experiment(tmp_path).run()
    assert (tmp_path / folder.BEST / "weights.pt").read_text() == "5"


def test_a_database_that_cannot_grow_loses_nothing_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [trial.sample for trial in experiment(tmp_path / "whole").run().trials]
    opened = SqliteStore.open

    def tiny(directory: Path, purpose: Any = "read") -> SqliteStore:
        store = opened(directory, purpose)
        if purpose == "write":
            store._connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size
        return store

    directory = tmp_path / "tiny"
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "open", staticmethod(tiny))
        with pytest.raises(StoreError, match="experiment.db cannot be used .* full"):
            experiment(directory).run()
    before = [trial for trial in SqliteStore.open(directory).trials() if trial.status.is_final]
    after = experiment(directory).run().trials
    assert [trial.sample for trial in after] == whole
    assert [trial for trial in after if trial.number in {trial.number for trial in before}] == before
