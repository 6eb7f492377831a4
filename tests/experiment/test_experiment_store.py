"""The store: what goes in comes out, at once and for everybody, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_nas.errors import StoreError
from lightning_nas.experiment import Description, SqliteStore
from lightning_nas.experiment.store import DATABASE
from lightning_nas.space import Categorical, Condition, Float, SearchSpace, Subset
from lightning_nas.trial import Intermediate, Status, Trial

SPACE = SearchSpace(
    {
        "kernel": Categorical([(1, 3), (3, 1), None, True, 1.5, "é"]),
        "lr": Float(1e-5, 1.0, log=True),
        "ops": Subset(["a", "b", "c"]),
        "deep": Categorical([1, 2]),
    },
    {"deep": Condition({"kernel": [(1, 3)]})},
)
DESCRIPTION = Description(SPACE, "Random(dedup=True)", "val_acc", "max", 7, "Net")


@pytest.fixture
def store(tmp_path: Path):
    made = SqliteStore.create(tmp_path, DESCRIPTION)
    yield made
    made.close()


def numbers() -> st.SearchStrategy[float]:
    return st.floats(allow_nan=False)


def metrics() -> st.SearchStrategy[dict[str, float]]:
    return st.dictionaries(st.text(max_size=5), numbers(), max_size=3)


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    import numpy as np

    text = st.none() | st.text(max_size=20)
    reports = draw(st.lists(st.tuples(st.integers(0, 9), metrics()), max_size=4))
    return Trial(
        number=0,
        sample=SPACE.sample(np.random.default_rng(draw(st.integers(0, 999)))),
        status=draw(st.sampled_from(Status)),
        metrics=draw(metrics()),
        score=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        intermediate=tuple(Intermediate(step, values) for step, values in reports),
        traceback=draw(text),
        reason=draw(text),
        started=draw(st.none() | st.floats(0, 2e9)),
        finished=draw(st.none() | st.floats(0, 2e9)),
        artifacts=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)),
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trial=trials())
def test_a_trial_comes_back_as_it_was_written(store: SqliteStore, tmp_path: Path, trial: Trial) -> None:
    store.write(trial)  # over that of the example before
    for position, report in enumerate(trial.intermediate):
        store.report(0, position, report)
    with contextlib.closing(SqliteStore.open(tmp_path)) as reader:
        (found,) = reader.trials()
        assert replace(found, intermediate=found.intermediate[: len(trial.intermediate)]) == trial
        assert reader.description == DESCRIPTION


def test_metrics_that_are_not_finite_come_back_and_are_json(store: SqliteStore, tmp_path: Path) -> None:
    values = {"a": math.nan, "b": math.inf, "c": -math.inf}
    store.write(Trial(0, {}, Status.FAILED, values))
    (trial,) = store.trials()
    assert math.isnan(trial.metrics["a"])
    assert (trial.metrics["b"], trial.metrics["c"]) == (math.inf, -math.inf)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        (text,) = connection.execute("SELECT metrics FROM trials").fetchone()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(text, parse_constant=refuse)


def test_a_report_replaces_those_at_and_after_its_position(store: SqliteStore) -> None:
    store.write(Trial(0, {}))
    for position in range(4):
        store.report(0, position, Intermediate(position, {"x": position}))
    store.report(0, 2, Intermediate(2, {"x": 9}))
    assert [report.metrics["x"] for report in store.trials()[0].intermediate] == [0, 1, 9]


def test_each_change_of_status_is_kept_with_its_reason_and_time(store: SqliteStore) -> None:
    trial = Trial(3, {}, Status.RUNNING)
    for status, reason in ((Status.RUNNING, None), (Status.PAUSED, "died"), (Status.COMPLETED, None)):
        store.write(replace(trial, status=status, reason=reason))
    changes = store.changes(3)
    assert [(change.status.value, change.reason) for change in changes] == [
        ("running", None),
        ("paused", "died"),
        ("completed", None),
    ]
    assert [change.time for change in changes] == sorted(change.time for change in changes)


def test_a_run_is_seen_until_it_ends(store: SqliteStore) -> None:
    store.begin_run({"max_trials": 3}, {"python": "3"})
    begun = store.runs()[0]
    store.write(Trial(0, {}))
    store.end_run("all done")
    (run,) = store.runs()
    assert begun["ended"] is None
    assert run["ended"] == "all done"
    assert run["started"] == begun["started"] < run["seen"]
    assert (run["settings"], run["environment"]) == ({"max_trials": 3}, {"python": "3"})


def test_others_read_while_one_writes(store: SqliteStore, tmp_path: Path) -> None:
    store.write(Trial(0, {}))
    program = (
        "import sys, pathlib; from lightning_nas.experiment import SqliteStore;"
        "store = SqliteStore.open(pathlib.Path(sys.argv[1])); print(len(store.trials())); store.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_a_closed_store_is_one_file_that_can_be_read_where_nothing_can_be_written(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(Trial(0, {}))
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]
    connect = sqlite3.connect

    class Refusing:
        """What SQLite does with a log it may not make."""

        def execute(self, query: str) -> None:
            raise sqlite3.OperationalError("unable to open database file")

        def close(self) -> None: ...

    def connect_in_a_read_only_folder(path: str, **options: object):
        return connect(path, **options) if "immutable" in path else Refusing()

    monkeypatch.setattr(sqlite3, "connect", connect_in_a_read_only_folder)
    with contextlib.closing(SqliteStore.open(tmp_path)) as reader:
        assert len(reader.trials()) == 1


def test_a_transaction_that_breaks_leaves_nothing(store: SqliteStore) -> None:
    with pytest.raises(TypeError):
        store.write(Trial(0, {"x": object()}))
    store._connection.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON changes BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    with pytest.raises(StoreError, match=r"experiment.db cannot be used as an experiment's store: full"):
        store.write(Trial(0, {}))
    store._connection.execute("DROP TRIGGER full")
    assert store.trials() == []
    store.write(Trial(0, {}))
    assert len(store.trials()) == 1


def test_a_folder_without_a_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"There is no experiment in .*: it has no experiment.db"):
        SqliteStore.open(tmp_path)


def test_a_second_store_is_not_made(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="already holds an experiment"):
        SqliteStore.create(tmp_path, DESCRIPTION)


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("trials: none, but long enough to be taken for a header " * 20)
    with pytest.raises(StoreError, match=r"experiment.db cannot be used .*file is not a database"):
        SqliteStore.open(tmp_path)


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("CREATE TABLE users (name)")
    with pytest.raises(StoreError, match="is a database, but not one of lightning-nas"):
        SqliteStore.open(tmp_path, "write")


def test_a_store_of_a_newer_version_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    store.close()
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(
        StoreError, match="has schema version 99, but this lightning-nas reads versions up to 2"
    ):
        SqliteStore.open(tmp_path)


def test_a_store_of_the_first_version_is_read_as_it_is_and_brought_up_to_date_by_a_driver(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.write(Trial(0, {"lr": 0.5}))
    trials = store.trials()
    store.close()
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.executescript("ALTER TABLE trials DROP COLUMN budget; PRAGMA user_version = 1")
    connection.close()
    for purpose in ("read", "write", "read"):
        with contextlib.closing(SqliteStore.open(tmp_path, purpose)) as opened:
            assert opened.trials() == trials
            if purpose == "write":
                opened.write(replace(trials[0], budget=3))
                trials = opened.trials()
    assert trials[0].budget == 3


def test_a_description_that_makes_no_sense_is_named(store: SqliteStore, tmp_path: Path) -> None:
    store.close()
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("DELETE FROM experiment WHERE key = 'space'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"does not say what its experiment is: KeyError\('space'\)"):
        SqliteStore.open(tmp_path)


@pytest.mark.parametrize(
    ("other", "phrase"),
    [
        (replace(DESCRIPTION, strategy="Grid()"), r"its strategy is Random\(dedup=True\), not Grid\(\)"),
        (replace(DESCRIPTION, metric=None), "its objective is val_acc, not None"),
        (replace(DESCRIPTION, mode="min"), "its mode is max, not min"),
        (replace(DESCRIPTION, seed=8), "its seed is 7, not 8"),
        (
            replace(DESCRIPTION, space=SearchSpace({"lr": Float(1e-5, 0.5, log=True), "wd": Float(0, 1)})),
            "its search space lacks 'wd' and also has 'deep', 'kernel', 'ops' and has other values or conditions "
            "for 'lr'",
        ),
    ],
)
def test_a_difference_is_told_by_name(other: Description, phrase: str) -> None:
    (told,) = other.differences(DESCRIPTION)
    with pytest.raises(AssertionError, match=phrase):
        raise AssertionError(told)


def test_no_difference_is_told_of_equals() -> None:
    assert DESCRIPTION.differences(Description.from_json(DESCRIPTION.to_json())) == []
