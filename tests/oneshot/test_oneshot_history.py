"""The file in which a search keeps its history, for those who look on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import ModelCheckpoint
from small_search import Lit, search

from lightning_nas import Darts
from lightning_nas.oneshot import SPOS
from lightning_nas.search_history import Candidates, append_epoch, read_search, write_search


def as_rows(path: Path) -> list[dict[str, Any]]:
    """The epochs of the file in the form of `OneShot.history`."""
    history = read_search(path)
    return [
        {
            "epoch": each.epoch,
            "step": each.step,
            "weights": {
                label: [list(row) for row in table]
                if history.candidates[label].rows != ("",)
                else list(*table)
                for label, table in each.weights.items()
            },
            "sample": each.sample,
            **each.health,
        }
        for each in history.snapshots
    ]


def test_the_file_equals_the_history(tmp_path: Path) -> None:
    darts = Darts(learning_rate=0.05, history_file=tmp_path / "runs" / "search.jsonl")
    search(darts, Lit, max_epochs=3)
    assert len(darts.history) == 3
    assert as_rows(tmp_path / "runs" / "search.jsonl") == darts.history
    assert read_search(tmp_path / "runs" / "search.jsonl").candidates == {
        "layer": Candidates(("",), darts.supernet.names["layer"][1]),
        "inputs": Candidates(("",), ("0", "1")),
    }


def test_each_epoch_is_there_when_it_ends(tmp_path: Path) -> None:
    seen = []

    class Lit2(Lit):
        def on_train_epoch_start(self) -> None:
            seen.append(len(read_search(tmp_path / "search.jsonl").snapshots))

    search(Darts(history_file=tmp_path / "search.jsonl"), Lit2, max_epochs=3)
    assert seen == [0, 1, 2]


def test_outside_a_trial_nothing_is_written_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search(Darts(), Lit)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_search_replaces_the_rows_behind_its_checkpoint_and_a_torn_line(tmp_path: Path) -> None:
    whole = Darts(learning_rate=0.05)
    search(whole, Lit, max_epochs=4)
    file = tmp_path / "search.jsonl"
    kept = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    search(Darts(learning_rate=0.05, history_file=file), Lit, callbacks=[kept], max_epochs=3)
    file.write_text(file.read_text() + '{"epoch": 3, "ste')  # killed while it wrote
    assert [each.epoch for each in read_search(file).snapshots] == [0, 1, 2]
    again = Darts(learning_rate=0.05, history_file=file)
    search(again, Lit, ckpt_path=tmp_path / "epoch=1.ckpt", max_epochs=4)
    assert len(file.read_text().splitlines()) == 1 + 4
    assert as_rows(file) == again.history == whole.history


def test_a_search_that_starts_anew_starts_its_file_anew(tmp_path: Path) -> None:
    file = tmp_path / "search.jsonl"
    search(Darts(history_file=file), Lit, max_epochs=3)
    darts = Darts(history_file=file, learning_rate=0.05)
    search(darts, Lit, max_epochs=1)
    assert as_rows(file) == darts.history


def test_weights_without_alphas_leave_no_file(tmp_path: Path) -> None:
    spos = SPOS()
    spos.history_file = tmp_path / "search.jsonl"
    search(spos, Lit)
    assert not spos.history_file.exists()


def test_the_file_is_no_setting_of_the_search() -> None:
    """Else the same search could not go on with its file elsewhere."""
    assert repr(Darts(history_file="here.jsonl")) == repr(Darts())


def test_numbers_that_json_lacks_come_back(tmp_path: Path) -> None:
    file = tmp_path / "search.jsonl"
    write_search(file, {"a": Candidates(("",), ("x", "y"))}, [])
    weights = {"a": [math.nan, 1.0]}
    append_epoch(
        file, {"epoch": 0, "step": 7, "weights": weights, "sample": {"a": "y"}, "search/gap": math.inf}
    )
    for line in file.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    (snapshot,) = read_search(file).snapshots
    assert math.isnan(snapshot.weights["a"][0][0])
    assert snapshot.health == {"search/gap": math.inf}


@pytest.mark.parametrize(
    ("weights", "sample"),
    [({"a": [0.5]}, {}), ({"a": [[0.5, 0.5]]}, {}), ({"b": [0.5, 0.5]}, {}), ({"a": [0.5, 0.5]}, ["x"])],
    ids=["too few", "too deep", "unknown", "no sample"],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, weights: Any, sample: Any) -> None:
    file = tmp_path / "search.jsonl"
    write_search(file, {"a": Candidates(("",), ("x", "y"))}, [])
    append_epoch(file, {"epoch": 0, "step": 7, "weights": weights, "sample": sample})
    with pytest.raises(ValueError, match="is no history of a one-shot search"):
        read_search(file)


@pytest.mark.parametrize("text", ["[1]\n", '{"candidates": 3}\n', "no JSON\n", '{"candidates": {}}\n{}\n'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "search.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"search\.jsonl is no history of a one-shot search|Expecting value"):
        read_search(tmp_path / "search.jsonl")
