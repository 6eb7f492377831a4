"""What the options say: values computed by hand, and laws that hold for every chart."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from chart_data import HOSTILE, SPACE, done, gallery, network, one_shot, searched
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_nas import charts
from lightning_nas.charts.axes import NOT_ACTIVE, parallel_numbers
from lightning_nas.charts.networks import block_sizes
from lightning_nas.charts.numbers import curve_numbers, history_numbers, importance_numbers, pareto_numbers
from lightning_nas.charts.text import plain, trial_text, value_text
from lightning_nas.charts.theme import PALETTE, STATUS_COLOURS
from lightning_nas.space import Categorical, Integer, SearchSpace
from lightning_nas.trial import Intermediate, Objective, Status, Trial

ACC, LOSS = Objective("acc"), Objective("loss")


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from keys(each)


def formatters(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (each for key, each in value.items() if key == "formatter")
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from formatters(each)


def series(option: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in option["series"] if each.get("name") == name]
    return found


# -- every chart -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", gallery())
def test_a_chart_is_json_without_nan(name: str) -> None:
    option = gallery()[name]
    assert json.loads(json.dumps(option, allow_nan=False)) == option


@pytest.mark.parametrize("name", gallery())
def test_other_peoples_text_is_neither_a_key_nor_a_formatter(name: str) -> None:
    """NiceGUI runs what stands under a key with a colon; a formatter is the one text that ECharts does not escape."""
    option = gallery(HOSTILE)[name]
    assert all(key.isalnum() for key in keys(option))
    assert not any("<" in formatter or "\x1b" in formatter for formatter in formatters(option))


@pytest.mark.parametrize("name", gallery())
def test_a_theme_changes_colours_alone_and_leaves_the_original(name: str) -> None:
    option = gallery()[name]
    before = copy.deepcopy(option)
    dark = charts.themed(option, dark=True)
    assert option == before
    assert dark != option
    assert charts.themed(dark, dark=False) == option
    for mine, theirs in zip(option["series"], dark["series"]):
        assert mine["data"] is theirs["data"]


def test_a_status_has_its_colour_in_every_chart() -> None:
    trials = searched()
    for option in (charts.history(trials, ACC), charts.durations(trials)):
        for status in (Status.COMPLETED, Status.STOPPED, Status.FAILED):
            assert series(option, status.value)["itemStyle"]["color"] == STATUS_COLOURS[status]
    counts = charts.statuses(dict.fromkeys(Status, 1))
    assert {each["name"]: each["itemStyle"]["color"] for each in counts["series"]} == {
        status.value: colour for status, colour in STATUS_COLOURS.items()
    }
    assert len(set(STATUS_COLOURS.values())) == len(Status)


numbers = st.floats(allow_nan=True, allow_infinity=True)
metrics = st.dictionaries(st.sampled_from(["acc", "loss"]), numbers)
any_trial = st.builds(
    Trial,
    number=st.integers(0, 50),
    sample=st.dictionaries(
        st.sampled_from(["a", "b"]),
        st.one_of(numbers, st.text(), st.none(), st.booleans(), st.just([1, "x"])),
    ),
    status=st.sampled_from(Status),
    metrics=metrics,
    score=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    intermediate=st.lists(st.builds(Intermediate, st.integers(0, 9), metrics), max_size=3).map(tuple),
    started=st.one_of(st.none(), st.just(0.0)),
    finished=st.one_of(st.none(), numbers),
)


@given(st.lists(any_trial, max_size=12, unique_by=lambda trial: trial.number))
@settings(max_examples=60)
def test_whatever_the_trials_hold_there_is_a_chart(trials: list[Trial]) -> None:
    for option in (
        charts.history(trials, ACC),
        charts.history(trials, LOSS),
        charts.history(trials, Objective()),
        charts.curves(trials, "loss"),
        charts.parallel(trials, ["a", "b"], ["acc", "loss"]),
        charts.durations(trials),
        charts.pareto(trials, ACC, LOSS),
    ):
        json.dumps(option, allow_nan=False)


# -- history ---------------------------------------------------------------------------------------


def test_the_best_so_far_follows_the_direction() -> None:
    values = [0.5, 0.4, 0.7, 0.6, 0.8]
    trials = [done(i, loss=value, acc=value) for i, value in enumerate(values)]
    assert history_numbers(trials, ACC).best == ((0, 0.5), (2, 0.7), (4, 0.8))
    assert history_numbers(trials, LOSS).best == ((0, 0.5), (1, 0.4), (4, 0.4))


@pytest.mark.parametrize("objective", [ACC, LOSS, Objective("acc", "min")])
def test_the_best_so_far_is_the_best_of_all_before(objective: Objective) -> None:
    trials = searched(200)
    best = dict(history_numbers(trials, objective).best)
    turned = max if objective.direction(objective.metric or "") == "max" else min
    now = None
    for trial in trials:
        if trial.status is Status.COMPLETED:
            value = trial.metrics[objective.metric or ""]
            now = value if now is None else turned(now, value)
        if trial.number in best:
            assert best[trial.number] == now


def test_only_completed_trials_compete_for_the_best() -> None:
    trials = [done(0, acc=0.5), Trial(1, {}, Status.STOPPED, {"acc": 0.9}, 0.9), done(2, acc=0.6)]
    assert history_numbers(trials, ACC).best == ((0, 0.5), (2, 0.6))


def test_the_trials_may_come_in_any_order() -> None:
    trials = searched()
    assert history_numbers(trials[::-1], ACC).best == history_numbers(trials, ACC).best


def test_a_failed_trial_stands_at_the_bottom_edge_and_says_why() -> None:
    option = charts.history([done(0, acc=5.0), Trial(1, {}, Status.FAILED, reason="OSError: disk full")], ACC)
    failed = series(option, "failed")
    assert failed["data"] == [{"value": [1, 0], "name": "trial 1, failed\nOSError: disk full", "trial": 1}]
    assert option["yAxis"][failed["yAxisIndex"]] == {"type": "value", "min": 0, "max": 1, "show": False} | {
        key: option["yAxis"][1][key]
        for key in ("nameTextStyle", "axisLabel", "axisTick", "axisLine", "splitLine")
    }


def test_a_running_trial_has_the_value_of_its_last_report_and_nan_is_left_out() -> None:
    reports = (Intermediate(0, {"acc": 0.1}), Intermediate(1, {"acc": 0.2}))
    trials = [
        Trial(0, {}, Status.RUNNING, intermediate=reports),
        Trial(1, {}, Status.RUNNING),
        Trial(2, {}, Status.STOPPED, {"acc": math.nan}),
    ]
    option = charts.history(trials, ACC)
    assert [point["value"] for each in option["series"] for point in each["data"]] == [[0, 0.2]]


def test_without_a_finished_trial_the_chart_says_so() -> None:
    for trials in ([], [Trial(0, {"lr": 0.1})]):
        option = charts.history(trials, ACC)
        assert option["title"]["text"] == "No finished trial yet"
        assert option["series"] == []


def test_a_loss_over_many_magnitudes_has_a_logarithmic_axis_and_an_accuracy_never() -> None:
    wide = [done(i, loss=10.0**i, acc=10.0**-i) for i in range(5)]
    assert charts.history(wide, LOSS)["yAxis"][0]["type"] == "log"
    assert charts.history(wide, ACC)["yAxis"][0]["type"] == "value"


def test_ten_thousand_trials_make_a_page_of_two_megabytes() -> None:
    option = charts.history(searched(10_000), ACC)
    assert len(json.dumps(option)) < 2.5e6
    assert sum(len(each["data"]) for each in option["series"] if each["type"] == "scatter") == 10_000


# -- curves ----------------------------------------------------------------------------------------


def test_a_curve_has_the_trials_name_and_a_gap_where_a_value_is_not_finite() -> None:
    reports = tuple(Intermediate(i, {"acc": v}) for i, v in enumerate([0.1, math.inf, 0.3]))
    (curve,) = charts.curves([Trial(7, {}, intermediate=reports)], "acc")["series"]
    assert curve["name"] == "trial 7"
    assert [point["value"] for point in curve["data"]] == [[0, 0.1], [1, None], [2, 0.3]]
    assert {point["trial"] for point in curve["data"]} == {7}


def test_of_many_curves_the_best_eight_have_colours() -> None:
    trials = [
        Trial(i, {}, Status.COMPLETED, {"acc": i / 500}, i / 500, (Intermediate(0, {"acc": i / 500}),))
        for i in range(500)
    ]
    option = charts.curves(trials, "acc")
    coloured = {each["name"]: each["lineStyle"]["color"] for each in option["series"]}
    assert [coloured[f"trial {number}"] for number in range(492, 500)] == list(PALETTE)
    assert sum(colour in PALETTE for colour in coloured.values()) == 8
    assert option["legend"]["data"] == [f"trial {499 - i}" for i in range(8)]


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    reports = tuple(Intermediate(i, {"acc": float(i)}) for i in range(12_345))
    (curve,) = curve_numbers([Trial(0, {}, intermediate=reports)], "acc")
    assert len(curve.steps) <= 502
    assert (curve.steps[0], curve.steps[-1]) == (0, 12_344)
    many = curve_numbers([Trial(i, {}, intermediate=reports[:1000]) for i in range(500)], "acc")
    assert sum(len(each.steps) for each in many) <= 51_000


# -- parallel --------------------------------------------------------------------------------------


def test_axes_are_of_the_kind_of_the_domain() -> None:
    axes = {each.name: each for each in parallel_numbers(searched(), list(SPACE), ["acc"], 1.0, SPACE).axes}
    assert {name: axis.kind for name, axis in axes.items()} == {
        "augment": "category",
        "depth": "value",
        "hidden": "category",
        "lr": "log",
        "momentum": "value",
        "optimizer": "category",
        "acc": "value",
    }
    assert (axes["lr"].low, axes["lr"].high) == (1e-5, 1e-1)
    assert axes["hidden"].categories == ("32", "64", "128")
    assert "none" in axes["augment"].categories


def test_a_label_that_is_not_active_has_a_place_of_its_own_beneath_the_values() -> None:
    space = SearchSpace({"momentum": Integer(0, 10), "nesterov": Categorical([False, True])})
    trials = [done(0, {"momentum": 0, "nesterov": True}, acc=0.5), done(1, {}, acc=0.6)]
    option = charts.parallel(trials, ["momentum", "nesterov"], ["acc"], space=space)
    momentum, nesterov, acc = option["parallelAxis"]
    assert [item["value"] for item in option["series"][0]["data"]] == [
        [0.0, "True", 0.5],
        [-1.2, NOT_ACTIVE, 0.6],
    ]
    assert (momentum["min"], momentum["max"]) == (-1.2, 10)
    assert momentum["axisLabel"]["customValues"] == [0, 2, 4, 6, 8, 10]
    assert momentum["name"].startswith(NOT_ACTIVE)
    assert nesterov["data"] == [NOT_ACTIVE, "False", "True"]
    assert not acc["name"].startswith(NOT_ACTIVE)


def test_top_keeps_the_best_by_score_and_draws_the_best_last() -> None:
    trials = [done(i, {"x": i}, score=-float(i), loss=float(i)) for i in range(10)]
    option = charts.parallel(trials, ["x"], ["loss"], top=0.3)
    assert [item["trial"] for item in option["series"][0]["data"]] == [2, 1, 0]
    with pytest.raises(ValueError, match="top=0"):
        charts.parallel(trials, ["x"], ["loss"], top=0)


@pytest.mark.parametrize(("sign", "first"), [(1, "worst"), (-1, "best")])
def test_colours_run_from_the_worst_to_the_best_whatever_the_metrics_name(sign: int, first: str) -> None:
    trials = [done(i, {"x": i}, score=sign * i / 10, quality=i / 10) for i in range(1, 10)]
    colours = charts.parallel(trials, ["x"], ["quality"])["visualMap"]["inRange"]["color"]
    darkest = "#440154"
    assert (colours[-1] if first == "worst" else colours[0]) == darkest


def test_a_choice_of_none_is_a_value_and_not_inactive() -> None:
    option = charts.parallel(
        [done(0, {"act": None}, acc=0.5), done(1, {"act": "relu"}, acc=0.6)], ["act"], []
    )
    assert option["parallelAxis"][0]["data"] == ["None", "relu"]


def test_values_that_look_alike_are_categories_of_their_own() -> None:
    long = "s3://bucket/" + "x" * 80
    values = [1, "1", True, long + "a", long + "b"]
    for space in (None, SearchSpace({"v": Categorical(values)})):
        trials = [done(i, {"v": value}, acc=i / 10) for i, value in enumerate(values)]
        option = charts.parallel(trials, ["v"], [], space=space)
        placed = {item["trial"]: item["value"][0] for item in option["series"][0]["data"]}
        assert len(set(placed.values())) == 5
        assert set(placed.values()) == set(option["parallelAxis"][0]["data"])


# -- the others ------------------------------------------------------------------------------------


def test_the_pareto_front_is_that_of_the_definition() -> None:
    trials = searched(150)
    for x, y in ((ACC, LOSS), (Objective("params", "min"), ACC), (Objective("params", "max"), ACC)):
        found = pareto_numbers(trials, x, y)
        turned = {
            t.number: tuple(e.score_of_report(t.metrics) or 0.0 for e in (x, y))
            for t in trials
            if t.status is Status.COMPLETED
        }
        front = {
            n
            for n, mine in turned.items()
            if not any(
                all(o >= m for o, m in zip(other, mine)) and other != mine for other in turned.values()
            )
        }
        assert {trial.number for trial, _, _ in found.front} == front
        assert len(found.front) + len(found.others) == len(turned)


def test_equal_points_are_all_on_the_front_and_the_step_turns_outside() -> None:
    trials = [done(i, a=a, b=b) for i, (a, b) in enumerate([(1, 1), (1, 1), (2, 3), (3, 2)])]
    least = charts.pareto(trials, Objective("a", "min"), Objective("b", "max"))
    front = series(least, "Pareto front")
    assert [point["value"] for point in front["data"]] == [[1, 1], [1, 1], [2, 3]]
    assert front["step"] == "end"
    most = charts.pareto(trials, Objective("a", "max"), Objective("b", "max"))
    assert [point["trial"] for point in series(most, "Pareto front")["data"]] == [2, 3]
    assert series(most, "Pareto front")["step"] == "start"
    assert [point["trial"] for point in series(most, "other trials")["data"]] == [0, 1]
    assert most["xAxis"]["name"] == "a (higher is better)"


def test_durations_have_a_unit_that_fits_and_the_median_of_completed_trials() -> None:
    trials = [
        Trial(i, {}, status, {"acc": 0.5}, 0.5, started=100.0, finished=100.0 + seconds)
        for i, (status, seconds) in enumerate(
            [(Status.COMPLETED, 600.0), (Status.COMPLETED, 1200.0), (Status.FAILED, 6.0)]
        )
    ]
    option = charts.durations([*trials, Trial(3, {})])
    assert option["yAxis"]["name"] == "duration (min)"
    assert [point["value"] for each in option["series"] for point in each["data"]] == [
        [0, 10],
        [1, 20],
        [2, 0.1],
    ]
    assert option["series"][0]["markLine"]["data"] == [{"yAxis": 15.0}]


def test_statuses_are_counted_in_a_fixed_order_and_also_by_their_text() -> None:
    option = charts.statuses({Status.FAILED: 2, Status.RUNNING: 1, Status.STOPPED: 0})
    assert option["yAxis"]["data"] == ["running", "failed"]
    assert option == charts.statuses({"failed": 2, "running": 1})  # type: ignore[dict-item]
    assert charts.statuses({})["title"]["text"] == "No trial yet"


def test_the_rest_of_many_importances_is_one_sum() -> None:
    ranked = importance_numbers({f"x{i:02}": (i + 1) / 210 for i in range(20)})
    assert ranked[0] == ("x19", 20 / 210)
    assert ranked[-1] == ("5 others", pytest.approx(15 / 210))
    assert sum(share for _, share in ranked) == pytest.approx(1)


def test_colours_of_alphas_mean_the_same_at_each_position() -> None:
    history = one_shot(6)
    options = [charts.alphas(history, "normal", position) for position in range(6)]
    assert {option["visualMap"]["max"] for option in options} == {0.65}
    assert {option["visualMap"]["min"] for option in options} == {0}
    first = {tuple(item["value"][:2]): item["value"][2] for item in options[0]["series"][0]["data"]}
    assert first == {(0, 0): 0.4, (1, 0): 0.3, (2, 0): 0.3, (0, 1): 0.2, (1, 1): 0.5, (2, 1): 0.3}
    assert options[0]["yAxis"]["data"] == ["2_0", "2_1"]
    with pytest.raises(KeyError, match="reduce"):
        charts.alphas(history, "reduce", 0)


def test_search_health_shows_score_and_gap_only_where_they_were_measured() -> None:
    with_score = charts.search_health(one_shot(6))
    assert [each["name"] for each in with_score["series"]] == [
        "entropy",
        "parameter-free share",
        "derived score",
        "gap",
    ]
    assert [point["value"][0] for point in series(with_score, "gap")["data"]] == [1, 3, 5]
    assert len(charts.search_health(one_shot(6, with_score=False))["series"]) == 2


def test_blocks_sum_their_layers() -> None:
    assert block_sizes(network()) == {"features": (2000, 3_000_000), "head": (500, 500)}
    option = charts.blocks(network())
    params, macs = option["series"]
    assert option["xAxis"][0]["name"] == "parameters (k)"
    assert [item["value"] for item in params["data"]] == [2.0, 0.5]
    assert [item["value"] for item in macs["data"]] == [3.0, 0.0005]
    assert params["data"][0]["name"] == "features\n2,000 (80.0 % of all) parameters"


# -- words -----------------------------------------------------------------------------------------


def test_text_is_one_line_without_placeholders() -> None:
    text = plain("{b} {red|alert}\n\x1b[31m" + "x" * 1000)
    assert "{b}" not in text
    assert "{red|" not in text
    assert text.isprintable() or "\u200b" in text
    assert "\n" not in text
    assert len(text) <= 70


def test_a_tooltip_of_a_long_sample_ends() -> None:
    trial = done(3, {f"op{i}": "conv" for i in range(40)}, acc=0.5)
    lines = trial_text(trial).splitlines()
    assert lines[:2] == ["trial 3, completed", "acc: 0.5"]
    assert lines[-1] == "and 28 more labels"
    assert len(trial_text(trial, among=5000).splitlines()) == 7


def test_values_are_told_apart() -> None:
    assert [value_text(v) for v in ([], ["a", "b"], (3, 3), 1e-5, True, None)] == [
        "none",
        "a, b",
        "(3, 3)",
        "1e-05",
        "True",
        "None",
    ]
