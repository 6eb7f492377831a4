"""`profile` and `rescue`."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiments import mistake

from lightning_nas import cli
from lightning_nas.experiment.description import Description
from lightning_nas.experiment.store import SqliteStore
from lightning_nas.space import Categorical, SearchSpace
from lightning_nas.trial import Status, Trial

SPACE = """
import torch
from torch import nn
import lightning_nas.nn as choices
from lightning_nas import model_wrapper
from helper_of_the_space import WIDTHS

@model_wrapper
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        width = choices.ValueChoice(WIDTHS, label="width")
        self.hidden, self.head = nn.Linear(1000, width), nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.hidden(x))

net = Net()
class Spaces:
    make = staticmethod(Net)
text = "no space"

@model_wrapper
class Speechless(Net):
    def forward(self, x):
        raise RuntimeError
"""


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "helper_of_the_space.py").write_text("WIDTHS = [10, 20, 40]\n")
    path = tmp_path / "sized_space.py"
    path.write_text(SPACE)
    monkeypatch.syspath_prepend(tmp_path)  # `profile` adds to the path itself; this puts it back
    return path


@pytest.mark.parametrize("name", ["Net", "net", "Spaces.make"])
def test_profile_shows_least_median_and_most_of_each_measure(
    space: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["profile", f"{space}:{name}", "--input", "1000"]) == 0
    title, _, parameters, operations, memory = capsys.readouterr().out.splitlines()
    assert title == f"{space}:{name}: all 3 networks, 1 label"
    assert parameters.split()[:4] == ["params_m", "0.01012", "0.02023", "0.04045"]  # 1001 w + 10 (w + 1)
    assert operations.split()[:4] == ["macs_m", "0.0101", "0.0202", "0.0404"]
    assert memory.split()[:4] == ["activation_mb", "0.00404", "0.00408", "0.00416"]  # 4 bytes (1000 + w)


def test_without_inputs_profile_counts_parameters_and_says_how_to_see_more(
    space: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(space.parent)
    assert cli.main(["profile", "sized_space:Net", "--samples", "2", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert "2 of 3 networks" in out
    assert "macs_m" not in out
    assert "With --input, such as --input 3,32,32, operations and memory are shown too." in out


def test_what_is_no_space_is_named(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be file.py:NAME or module:NAME, but is 'Net'" in mistake(capsys, "profile", "Net")
    assert "has no attribute 'Nett'" in mistake(capsys, "profile", f"{space}:Nett")
    assert "str is not a model space" in mistake(capsys, "profile", f"{space}:text")
    assert "No module named 'nowhere'" in mistake(capsys, "profile", "nowhere:Net")
    assert "nowhere.py" in mistake(capsys, "profile", "nowhere.py:Net")
    said = mistake(capsys, "profile", "../nowhere.py:Net")
    assert "at ../nowhere.py:Net: " in said
    assert said.endswith("/../nowhere.py'.\n")
    assert "does not run on inputs of shape (7,)" in mistake(
        capsys, "profile", f"{space}:Net", "--input", "7"
    )
    said = mistake(capsys, "profile", f"{space}:Speechless", "--input", "1000")
    assert said.endswith("shape (1000,): RuntimeError\n")
    with pytest.raises(SystemExit):
        cli.main(["profile", f"{space}:Net", "--input", "3x4"])
    assert "must be a shape such as 3,32,32, but is '3x4'" in capsys.readouterr().err


def test_rescue_says_what_was_saved_and_where_the_damaged_database_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = SearchSpace({"x": Categorical(list(range(100)))})
    store = SqliteStore.create(tmp_path, Description(space, "Random()", "acc", None, 0))
    for number in (0, 1, 3):
        store.write(Trial(number, {"x": number}, Status.COMPLETED, {"acc": 0.5}, 0.5))
    store.close()
    assert cli.main(["rescue", str(tmp_path)]) == 0
    damaged = tmp_path / "experiment.db.damaged"
    assert capsys.readouterr().out.splitlines() == [
        f"3 of 4 trials are saved; the damaged database is now {damaged}.",
        "Lost: trial 2. When the search goes on they run again, with new samples.",
    ]
    assert damaged.exists()
    assert "There is no experiment" in mistake(capsys, "rescue", tmp_path / "nowhere")
