"""An experiment with a one-shot method: trial 0 searches, trial 1 is what it derived."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import lightning_nas.nn as nn
from lightning_nas import Classification, Darts, Experiment, Float, FunctionalEvaluator, Status, model_wrapper
from lightning_nas.search_history import read_search


@model_wrapper
class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LayerChoice([nn.Linear(4, 4), nn.Identity(), nn.Tanh()], label="layer")
        hidden = nn.ValueChoice([2, 4], label="hidden")
        self.head = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x))


@pytest.fixture(autouse=True)
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def data() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    return DataLoader(TensorDataset(x, (x[:, 0] > x[:, 1]).long()), 8, shuffle=True)


class Interrupted(Classification):
    """Ctrl-C in the second epoch, the first time."""

    def __init__(self, flag: Path, **options: Any) -> None:
        super().__init__(**options)
        self.flag = flag

    def fit(self, model: Any, report: Any, callbacks: Any = ()) -> Any:
        def press(step: int, metrics: Any) -> bool:
            if step == 1 and not self.flag.exists():
                self.flag.touch()
                raise KeyboardInterrupt
            return bool(report(step, metrics))

        return super().fit(model, press, callbacks)


def evaluator(cls: type[Classification] = Classification, **options: Any) -> Classification:
    return cls(train_dataloaders=data, val_dataloaders=data, max_epochs=3, accelerator="cpu", **options)


def experiment(folder: Path, made: Any = None, **options: Any) -> Experiment:
    settings = {"directory": folder, "objective": "val_acc", "progress": False, "export": False}
    method = options.pop("method", None) or Darts(learning_rate=0.1, guard=False)
    return Experiment(Net(), evaluator() if made is None else made, method, **{**settings, **options})


@pytest.mark.parametrize("runner", ["inprocess", "processes"])
def test_trial_0_searches_and_trial_1_competes(tmp_path: Path, runner: str) -> None:
    done = experiment(tmp_path, runner=runner).run()
    search, derived = done.trials
    assert search.status is derived.status is Status.COMPLETED
    assert search.sample == derived.sample
    assert search.score is None
    assert done.best is not None
    assert done.best.number == 1
    assert len(search.intermediate) == 3
    assert {"alpha/layer/0", "alpha/hidden/2", "search/entropy"} <= search.intermediate[-1].metrics.keys()
    assert json.loads((tmp_path / "best" / "sample.json").read_text()) == derived.sample


def test_the_searchs_history_lies_in_its_trials_folder(tmp_path: Path) -> None:
    done = experiment(tmp_path, runner="inprocess").run()
    history = read_search(tmp_path / "trials" / "0" / "search.jsonl")
    assert [each.epoch for each in history.snapshots] == [0, 1, 2]
    assert set(history.candidates) == {"layer", "hidden"}
    assert history.snapshots[-1].sample == done.trials[0].sample
    assert not (tmp_path / "trials" / "1" / "search.jsonl").exists()


def test_the_winner_is_exported_as_any_other(tmp_path: Path) -> None:
    done = experiment(tmp_path, runner="inprocess").run()
    (path,) = done.export_top_models(formatter="code")
    assert "LayerChoice" not in path.read_text()


def test_run_again_it_has_nothing_left_to_do(tmp_path: Path) -> None:
    first = experiment(tmp_path, runner="inprocess").run().trials
    assert experiment(tmp_path, runner="inprocess").run().trials == first


def test_a_search_that_breaks_off_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    whole = experiment(tmp_path / "whole", runner="inprocess").run().trials
    broken = evaluator(Interrupted, flag=tmp_path / "pressed")
    with pytest.raises(KeyboardInterrupt):
        experiment(tmp_path / "again", broken, runner="inprocess").run()
    again = experiment(tmp_path / "again", broken, runner="inprocess").run().trials
    assert [trial.sample for trial in whole] == [trial.sample for trial in again]
    files = [tmp_path / run / "trials" / "0" / "search.jsonl" for run in ("whole", "again")]
    assert files[0].read_text() == files[1].read_text()
    assert [dict(report.metrics) for report in whole[0].intermediate] == [
        dict(report.metrics) for report in again[0].intermediate
    ]


def test_it_goes_on_so_too_where_a_logger_brings_the_other_lightning(tmp_path: Path) -> None:
    loggers = pytest.importorskip(
        "lightning.pytorch.loggers", reason="the package lightning is not installed"
    )
    logger = loggers.CSVLogger(tmp_path / "csv")
    whole = experiment(tmp_path / "whole", evaluator(logger=logger), runner="inprocess").run()
    made = evaluator(Interrupted, flag=tmp_path / "pressed", logger=logger)
    with pytest.raises(KeyboardInterrupt):
        experiment(tmp_path / "parts", made, runner="inprocess").run()
    parts = experiment(tmp_path / "parts", made, runner="inprocess").run()
    assert [t.metrics for t in parts.trials] == [t.metrics for t in whole.trials]
    runs = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("metrics.csv"))
    assert runs == [f"csv/lightning_logs/{name}/trial_{n}" for name in ("parts", "whole") for n in (0, 1)]


def test_other_settings_of_the_method_are_another_experiment(tmp_path: Path) -> None:
    experiment(tmp_path, runner="inprocess").run()
    with pytest.raises(Exception, match=r"its strategy is .*learning_rate=0.1.*not .*order=2"):
        experiment(tmp_path, method=Darts(order=2))


def test_a_search_that_fails_says_why(tmp_path: Path) -> None:
    one_class = DataLoader(TensorDataset(torch.randn(8, 4), torch.zeros(8, dtype=torch.long)), 4)
    made = Classification(train_dataloaders=one_class, max_epochs=1, accelerator="cpu")
    done = experiment(tmp_path, made, runner="inprocess").run()
    (search,) = done.trials
    assert search.status is Status.FAILED
    assert "class 0 only" in str(search.reason)


def test_an_evaluator_that_cannot_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Darts needs an evaluator that can `fit`.*got a FunctionalEvaluator"):
        experiment(tmp_path, FunctionalEvaluator(lambda model: 1.0))


def test_a_search_space_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Darts searches a model"):
        Experiment({"lr": Float(0, 1)}, evaluator(), Darts(), directory=tmp_path)


def test_further_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Darts searches the model alone"):
        experiment(tmp_path, space={"lr": Float(0, 1)})
