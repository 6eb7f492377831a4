"""The report as a file: what stands in it, that nothing in it is run or loaded, and that it tells the truth."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reported import EVIL, Page, finished, made, with_files, with_search

from lightning_nas import charts, cli, html_report
from lightning_nas.errors import StoreError
from lightning_nas.experiment import SqliteStore, folder
from lightning_nas.html_report import write_report
from lightning_nas.html_report.charting import MOST_TRIALS, charted, with_front
from lightning_nas.html_report.embedding import changes
from lightning_nas.html_report.searching import MOST_EPOCHS
from lightning_nas.search_history import read_search
from lightning_nas.space import Categorical, SearchSpace
from lightning_nas.trial import Intermediate, Objective, Status, Trial, best

ECHARTS = Path(html_report.__file__).parent / "echarts"


def page_of(directory: Path, **options: Any) -> Page:
    return Page(write_report(directory, **options).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that has all that a report may tell."""
    directory = tmp_path_factory.mktemp("rich") / "my search"
    trials = finished(40)
    made(directory, trials)
    with_files(directory, best(trials)[0].number)
    with_search(directory)
    return directory


def test_it_is_well_formed(rich: Path) -> None:
    page = page_of(rich)
    assert page.faults == []
    assert len(page.attributes("id")) == len(set(page.attributes("id")))
    targets = [link[1:] for link in page.attributes("href") if link.startswith("#")]
    assert set(targets) <= set(page.attributes("id"))
    assert len(targets) == 8


def test_it_loads_nothing(rich: Path) -> None:
    page = page_of(rich)
    loaded = [
        value for name in ("src", "href", "xlink:href", "srcset", "action") for value in page.attributes(name)
    ]
    assert {value for value in loaded if not value.startswith("#")} == {"data:,"}
    assert not re.search(r"@import|url\(", "".join(raw for raw in page.raw if "echarts" not in raw[:2000]))
    policy = next(
        attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_it_tells_of_everything(rich: Path) -> None:
    page = page_of(rich)
    leader = best(finished(40))[0]
    for text in (
        "my search", "finished", "All trials are done.", f"{leader.score:.5g}", f"trial {leader.number}, the best",
        "212 parameters, 192 multiply-accumulates", "class Net:", "4 trials: RuntimeError: out of memory",
        "python search.py --lr '0.1 0.2'", "cd '/home/me/my runs'", "git checkout 0123456789abcdef",
        "Files had changes that were not committed", "optimizer is 'sgd'", "max_trials", "2.15.0", "Search of trial 0",
        "after epoch 5, 60 steps, entropy 0.95, parameter-free share 0.25",
    ):  # fmt: skip
        assert text in page.words, text
    names = page.attributes("data-chart")
    assert sorted(names) == sorted(page.data["charts"])
    assert len(names) == 4 + 3 + 3 + 1  # progress, comparing, search, blocks


def test_other_peoples_text_is_text(tmp_path: Path) -> None:
    space = SearchSpace({EVIL: Categorical([EVIL, "b"])})
    ansi = f"\x1b[31mTraceback\x1b[0m\x1b]0;title\x07 {EVIL}\x00"
    trials = [
        Trial(0, {EVIL: EVIL}, Status.COMPLETED, {"acc": 0.5, EVIL: 1.0}, 0.5),
        Trial(
            1, {EVIL: "b"}, Status.COMPLETED, {"acc": 0.6, EVIL: 2.0}, 0.6, (Intermediate(0, {EVIL: 1.0}),)
        ),
        Trial(2, {EVIL: EVIL}, Status.FAILED, traceback=ansi, reason=EVIL, started=1.0, finished=2.0),
    ]
    environment = {"command": [EVIL], "working_directory": EVIL, "commit": EVIL, "packages": {EVIL: EVIL}}
    directory = made(
        tmp_path / "<b>x", trials, ended=EVIL, space=space, strategy=EVIL, model=EVIL, environment=environment
    )
    for number in (0, 1):
        with_files(directory, number)
    (directory / "trials" / "2").mkdir()
    (directory / "trials" / "2" / "output.log").write_text(f"\x1b[1m{EVIL}\x1b[0m\r50%\r100%\n")
    page = page_of(directory)
    assert page.faults == []
    assert [tag for tag, attrs in page.tags if tag == "script"] == ["script"] * 3
    assert {tag for tag, _ in page.tags if tag in ("b", "title")} == {"b", "title"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert EVIL in page.words
    assert "\x1b" not in page.text
    assert "\x00" not in page.text
    assert "\u2028" not in page.raw[-3]
    assert "100%" in page.words
    assert "50%" not in page.words
    assert page.data["charts"]


def test_the_data_come_back_as_they_were(rich: Path) -> None:
    page = page_of(rich)
    shown = charts.durations(finished(40))
    found = [chart["option"] for chart in page.data["charts"].values()]
    assert shown["series"][0]["data"][0]["trial"] in {
        point.get("trial") for option in found for series in option["series"] for point in series["data"]
        if isinstance(point, dict)
    }  # fmt: skip


def test_the_programs_are_those_of_the_policy(rich: Path) -> None:
    page = page_of(rich)
    policy = next(attrs["content"] or "" for _, attrs in page.tags if "http-equiv" in attrs)
    programs = [raw for raw in page.raw if raw.lstrip().startswith(("/*", '"use strict"'))]
    programs = [raw for raw in programs if "echarts" in raw]
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in programs]
    assert len(hashes) == 2
    assert all(f"'sha256-{each}'" in policy for each in hashes)


def test_it_loads_no_torch_and_no_dashboard(rich: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from lightning_nas.html_report import write_report; "
        f"write_report({str(rich)!r}, {str(tmp_path / 'r.html')!r}); "
        "print([n for n in ('torch', 'nicegui', 'matplotlib', 'pandas', 'lightning_nas.oneshot') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_trials(tmp_path: Path) -> None:
    page = page_of(made(tmp_path, [], ended=None))
    assert page.faults == []
    assert "There is no trial yet." in page.words
    assert "broken off" in page.words
    assert page.data == {"charts": {}, "searches": {}}


def test_a_search_without_a_model_tells_of_no_architectures(tmp_path: Path) -> None:
    page = page_of(made(tmp_path, finished(5), model=None))
    assert "Architecture" not in page.words
    assert page.faults == []


def test_without_any_run(tmp_path: Path) -> None:
    from lightning_nas.experiment.description import Description

    SqliteStore.create(tmp_path, Description(SearchSpace({}), "Random()", None, None, 0)).close()
    page = page_of(tmp_path)
    assert page.faults == []
    assert "not begun" in page.words


def test_while_it_runs_it_says_as_of_when(tmp_path: Path) -> None:
    trials = [*finished(3), Trial(3, {"lr": 0.1, "optimizer": "adam"}, Status.RUNNING, started=1e9)]
    directory = made(tmp_path, trials, ended=None)
    with folder.only_driver(directory):
        page = page_of(directory)
    assert "It was still running" in page.words
    assert re.search(r"As of 2\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d", page.words)
    assert "3 completed" in page.words or "1 running" in page.words


def test_numbers_that_are_none(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    reports = tuple(Intermediate(i, {"acc": value}) for i, value in enumerate([nan, inf, -inf, 0.5]))
    sample = {"lr": 0.1, "optimizer": "adam"}
    trials = [
        Trial(0, sample, Status.COMPLETED, {"acc": 0.5, "loss": nan, "gap": inf}, 0.5, reports),
        Trial(1, sample, Status.COMPLETED, {"acc": 0.4, "loss": -inf}, 0.4, reports),
        Trial(2, sample, Status.FAILED, {"acc": nan}, None, reports, reason="MetricError: NaN"),
    ]
    page = page_of(made(tmp_path, trials))
    assert page.faults == []
    for text in ("NaN", "∞", "-∞"):
        assert text in page.words
    raw = next(raw for raw in page.raw if raw.startswith('{"charts"'))
    json.loads(raw, parse_constant=pytest.fail)


@pytest.mark.slow
def test_thousands_of_trials_stay_a_file_to_mail(tmp_path: Path) -> None:
    trials = finished(3000, reports=2)
    path = write_report(made(tmp_path, trials))
    page = Page(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 4e6
    assert f"Shows {MOST_TRIALS:,} of 3,000 trials" in page.words
    assert "Shows 50 of 3,000 trials, the best." in page.words
    history = page.data["charts"]["progress-0"]["option"]["series"]
    drawn = next(series["data"] for series in history if series["name"] == "best so far")
    full = charts.history(trials, Objective("acc"))["series"]
    expected = next(series["data"] for series in full if series["name"] == "best so far")
    assert [x for x, _ in drawn][:-1] == [x for x, _ in expected][:-1]


def test_the_chosen_trials_hold_the_best_of_every_time() -> None:
    trials = finished(500)
    kept, note = charted(trials, 60)
    assert len(kept) <= 60
    assert "of 500 trials" in note
    assert [trial.number for trial in kept] == sorted({trial.number for trial in kept})
    leading, leaders = -1.0, []
    for trial in trials:
        if trial.status is Status.COMPLETED and (trial.score or 0) > leading:
            leading = trial.score or 0
            leaders.append(trial)
    assert all(trial in kept for trial in leaders + best(trials, 15))
    assert charted(trials, 500) == (trials, "")


def test_a_chart_of_some_trials_has_the_front_of_all() -> None:
    rng = np.random.default_rng(0)
    trials = [
        Trial(i, {}, Status.COMPLETED, {"acc": float(a), "ms": float(b)}, float(a))
        for i, (a, b) in enumerate(rng.random((3000, 2)))
    ]
    x, y = Objective("ms", "min"), Objective("acc")
    shown, note = with_front(trials, x, y)
    assert len(shown) == MOST_TRIALS
    assert "2,000 of 3,000 trials: the whole front" in note
    fronts = [
        [series["data"] for series in charts.pareto(some, x, y)["series"] if series["name"] == "Pareto front"]
        for some in (trials, shown)
    ]
    assert [p["value"] for p in fronts[0][0]] == [p["value"] for p in fronts[1][0]]


def test_many_labels_and_failures_are_summed_up(tmp_path: Path) -> None:
    space = SearchSpace({f"layer_{i:03}": Categorical(["a", "b"]) for i in range(300)})
    sample = dict.fromkeys(space, "a")
    trials = [Trial(i, sample, Status.COMPLETED, {"acc": i / 9}, i / 9) for i in range(3)]
    for i in range(3, 40):
        trace = f'Traceback\n  File "net.py", line {i}, in f\n' + "x\n" * 100 + "y" * 10**6
        trials.append(Trial(i, sample, Status.FAILED, traceback=trace, reason="ValueError"))
    page = page_of(made(tmp_path, trials, space=space))
    assert "Shows 6 of 300 labels." in page.words
    assert "And 27 other kinds of failure, of 27 trials." in page.words
    assert "lines before]" in page.words
    assert len(page.words) < 10**5
    assert "about 2.0e+90 samples" in page.words


def test_files_that_are_damaged_are_named_and_left_out(tmp_path: Path) -> None:
    trials = finished(5)
    directory = made(tmp_path, trials)
    number = best(trials)[0].number
    with_files(directory, number)
    with_search(directory)
    (directory / "trials" / str(number) / "architecture.json").write_text('{"version": 2}')
    (directory / "trials" / "0" / "search.jsonl").write_text("[]\n")
    (directory / "best" / "net.py").write_bytes(b"\xff\xfe\x00 = 1")
    second = best(trials, 2)[1].number
    with_files(directory, second)
    place = directory / "trials" / str(second) / "architecture.json"
    place.write_text(place.read_text().replace("[2, 3]", "[2, 9]"))
    page = page_of(directory)
    assert (
        "architecture.json is left out, since it cannot be read: This is no architecture of version 1."
        in page.words
    )
    assert "This is no architecture: an edge joins layers that are not there." in page.words
    assert "search.jsonl is left out" in page.words
    assert page.faults == []


def test_the_code_of_another_trial_is_not_shown(tmp_path: Path) -> None:
    trials = finished(5)
    directory = made(tmp_path, trials)
    with_files(directory, best(trials, 5)[-1].number)
    assert "class Net:" not in page_of(directory).words


def test_code_that_a_trial_left_is_shown_unless_it_was_exported(tmp_path: Path) -> None:
    trials = finished(5)
    directory = made(tmp_path, trials)
    leading = best(trials, 2)
    for trial in leading:
        place = directory / "trials" / str(trial.number)
        place.mkdir(parents=True)
        (place / "net.py").write_text(f"class Built{trial.number}: ...\n")
    exported = directory / "export" / str(leading[1].number)
    exported.mkdir(parents=True)
    (exported / "net.py").write_text("class Proved: ...\n")
    words = page_of(directory).words
    assert f"class Built{leading[0].number}: ..." in words
    assert "class Proved: ..." in words
    assert f"class Built{leading[1].number}: ..." not in words


def test_an_exported_trial_has_its_code(tmp_path: Path) -> None:
    trials = finished(5)
    directory = made(tmp_path, trials)
    exported = directory / "export" / str(best(trials, 2)[1].number)
    exported.mkdir(parents=True)
    (exported / "net.py").write_text("class Second: ...\n")
    assert "class Second: ..." in page_of(directory).words


def test_equal_cells_are_drawn_once_and_the_last_is_shown(rich: Path) -> None:
    page = page_of(rich)
    assert page.data["searches"]["search-0"]["drawings"] == [0, 0, 0, 1, 1, 1]
    hidden = [
        attrs["data-drawing"] for _, attrs in page.tags if "data-drawing" in attrs and "hidden" in attrs
    ]
    assert hidden == ["0"]


def test_a_long_search_has_some_of_its_epochs(tmp_path: Path) -> None:
    directory = made(tmp_path, finished(2))
    with_search(directory, epochs=100)
    page = page_of(directory)
    assert f"The slider has {MOST_EPOCHS} of 100 epochs." in page.words
    assert len(page.data["searches"]["search-0"]["words"]) == MOST_EPOCHS


def follow(option: Any, found: Any) -> Any:
    """What `changed` in report.js does."""
    option = json.loads(json.dumps(option))
    for path, *value in found:
        if not path:
            option = value[0]
            continue
        place = option
        for key in path[:-1]:
            place = place[key]
        if value:
            place[path[-1]] = value[0]
        else:
            del place[path[-1]]
    return option


def test_changes_lead_from_one_chart_to_the_other(rich: Path) -> None:
    history = read_search(rich / "trials" / "0" / "search.jsonl")
    last = charts.alphas(history, "normal", -1)
    to_dark = changes(last, charts.themed(last, dark=True))
    for position in range(6):
        option = charts.alphas(history, "normal", position)
        moved = follow(last, changes(last, option))
        assert moved == json.loads(json.dumps(option))
        assert follow(moved, to_dark) == json.loads(json.dumps(charts.themed(option, dark=True)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a": 1}, {"b": 2}), ({"a": [1, 2]}, {"a": [1]}), ({"a": {"b": [{"c": 1}, 2]}}, {"a": {"b": [{}, 3]}}),
        (1, {"a": 1}), ({"data": [1, 2]}, {"data": [1, 3]}), ({"a": 1}, {"a": True}),
    ],
)  # fmt: skip
def test_changes_of_all_kinds(old: Any, new: Any) -> None:
    found = follow(old, changes(old, new))
    assert (found, repr(found)) == (new, repr(new))
    assert changes(old, old) == []


# ---------------------------------------------------------------- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_writes_the_file_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = made(tmp_path / "x", finished(4))
    code, out, err = run(capsys, "report", directory)
    assert (code, err) == (0, "")
    assert re.fullmatch(re.escape(str(directory / "report.html")) + r"  1\.\d MB\n", out)
    assert run(capsys, "report", directory, "-o", tmp_path / "new" / "y.html")[0] == 0
    assert run(capsys, "report", directory, "-o", tmp_path, "--top", 2)[0] == 0
    assert "2 of 4 trials, best first." in Page((tmp_path / "report.html").read_text()).words
    left = {path.name for path in tmp_path.rglob(".*")}
    assert left == set()


def test_no_experiment_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "report", tmp_path)
    assert (code, out) == (2, "")
    assert err == f"lightning-nas: There is no experiment in {tmp_path}: it has no experiment.db.\n"


def test_a_damaged_store_and_a_newer_one_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = made(tmp_path / "newer", finished(2)) / "experiment.db"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    damaged = made(tmp_path / "damaged", finished(2)) / "experiment.db"
    damaged.write_bytes(b"no database at all " * 100)
    for path, words in ((newer, "has schema version 999"), (damaged, "lightning-nas rescue")):
        code, out, err = run(capsys, "report", path.parent)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err
        assert not (path.parent / "report.html").exists()


def test_where_it_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = made(tmp_path / "x", finished(2))
    (tmp_path / "file").touch()
    code, _, err = run(capsys, "report", directory, "-o", tmp_path / "file" / "y.html")
    assert code == 2
    assert err.count("\n") == 1


def test_it_can_be_written_while_the_store_is(tmp_path: Path) -> None:
    directory = made(tmp_path, finished(20))
    is_over = threading.Event()
    failures = []

    def write() -> None:
        store = SqliteStore.open(directory, "write")
        for number in range(20, 10_000):
            store.write(replace(finished(1)[0], number=number))
            if is_over.is_set():
                break
        store.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            failures += page_of(directory).faults
    except StoreError as error:  # pragma: no cover
        failures.append(str(error))
    finally:
        is_over.set()
        writer.join()
    assert failures == []


# ---------------------------------------------------------------- what the package holds


def test_echarts_is_what_its_readme_says() -> None:
    program = (ECHARTS / "echarts.min.js").read_bytes()
    text = (ECHARTS / "README.md").read_text()
    assert f"| {len(program):,} | `{hashlib.sha256(program).hexdigest()}` |" in text
    (version,) = re.findall(r"npm package `echarts` (\S+),", text)
    assert f't.version="{version}"'.encode() in program
    assert f"Apache ECharts {version}" in (ECHARTS.parent / "page" / "report.html").read_text()
    assert "Apache License" in (ECHARTS / "LICENSE").read_text()
    assert b"</script" not in program.lower()
    assert b"<!--" not in program
    assert b"\r" not in program


def test_the_wheel_has_the_files() -> None:
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    root = ECHARTS.parents[2]
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "lightning_nas"
    ]
    held = {path for pattern in listed for path in (root / "lightning_nas").glob(pattern)}
    others = [p for p in ECHARTS.parent.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert len(others) == 8
    assert set(others) <= held
