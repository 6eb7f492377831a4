"""Searches and networks of every kind, for the tests of charts."""

from __future__ import annotations

import math
from typing import Any

from lightning_nas import charts
from lightning_nas.architecture import Architecture, Layer
from lightning_nas.charts.theme import Option
from lightning_nas.search_history import Candidates, SearchHistory, Snapshot
from lightning_nas.space import Categorical, Condition, Float, Integer, SearchSpace, Subset
from lightning_nas.trial import Intermediate, Objective, Status, Trial

HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>{c}{a|b}&\x1b[31m'

SPACE = SearchSpace(
    {
        "lr": Float(1e-5, 1e-1, log=True),
        "hidden": Categorical([32, 64, 128]),
        "optimizer": Categorical(["adam", "sgd"]),
        "momentum": Float(0, 0.99),
        "depth": Integer(1, 8),
        "augment": Subset(["flip", "crop"]),
    },
    {"momentum": Condition({"optimizer": ["sgd"]})},
)


def done(
    number: int, sample: dict[str, Any] | None = None, score: float | None = None, **metrics: float
) -> Trial:
    """A completed trial; the score is the first metric unless it is given."""
    first = next(iter(metrics.values()))
    return Trial(
        number,
        {} if sample is None else sample,
        Status.COMPLETED,
        metrics,
        first if score is None else score,
        started=0.0,
        finished=10.0 + number,
    )


def searched(n: int = 40, label: str = "lr") -> list[Trial]:
    """A search with trials of each status; `label` takes the place of `lr`."""
    import numpy as np

    rng = np.random.default_rng(0)
    trials = []
    for i in range(n):
        sample = SPACE.sample(rng)
        sample[label] = sample.pop("lr")
        acc = 0.9 - 0.1 * abs(math.log10(sample[label]) + 3) + 0.01 * float(rng.normal())
        reports = tuple(Intermediate(k, {"acc": acc * (k + 1) / 5, "loss": math.nan}) for k in range(5))
        status = [Status.COMPLETED] * 6 + [Status.STOPPED, Status.FAILED, Status.RUNNING, Status.PAUSED]
        match status[i % 10]:
            case Status.FAILED:
                trial = Trial(
                    i, sample, Status.FAILED, reason=f"ValueError: {label}", finished=3.0, started=0.0
                )
            case Status.RUNNING:
                trial = Trial(i, sample, Status.RUNNING, intermediate=reports[:2], started=0.0)
            case other:
                metrics = {"acc": acc, "loss": 1 - acc, "params": 100.0 * sample["depth"]}
                trial = Trial(i, sample, other, metrics, acc, reports, started=0.0, finished=9.0 + i)
        trials.append(trial)
    return trials


def one_shot(epochs: int = 6, label: str = "normal", with_score: bool = True) -> SearchHistory:
    """A history with a cell of two edges and three candidates, and a plain choice."""
    snapshots = []
    for epoch in range(epochs):
        strongest = 0.4 + 0.05 * epoch
        health = {"search/entropy": 1 - 0.1 * epoch, "search/parameter_free": 0.125 * epoch}
        if with_score and epoch % 2:
            health |= {"search/derived_score": 0.5 + 0.05 * epoch, "search/gap": 0.02 * epoch}
        weights = {
            label: ((strongest, 0.3, 0.7 - strongest), (0.2, 0.5, 0.3)),
            "stem": ((0.25, 0.75),),
        }
        snapshots.append(Snapshot(epoch, 100 * epoch, weights, {}, health))
    candidates = {
        label: Candidates(("2_0", "2_1"), ("none", "skip", label)),
        "stem": Candidates(("",), ("conv3", "conv5")),
    }
    return SearchHistory(candidates, tuple(snapshots))


def network(name: str = "features") -> Architecture:
    layers = (
        Layer("x", "input"),
        Layer(f"{name}.0", "Conv2d", block=f"{name}", params=1200, macs=3_000_000),
        Layer(f"{name}.1", "Conv2d", block=f"{name}", params=800, macs=None),
        Layer("head", "Linear", block="head", params=500, macs=500),
        Layer("relu", "relu"),
        Layer("out", "output"),
    )
    return Architecture(layers, ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)), 2500, 3_000_500)


def gallery(text: str | None = None) -> dict[str, Option]:
    """Every chart, with `text` as label, metric, candidate and block where it is given."""
    label, acc = text or "lr", Objective("acc")
    trials = searched(label=label)
    metric = text or "acc"
    if text is not None:
        trials = [
            Trial(
                **{
                    **vars(t),
                    "metrics": dict(zip([text], t.metrics.values())),
                    "intermediate": tuple(
                        Intermediate(r.step, {text: r.metrics["acc"]}) for r in t.intermediate
                    ),
                }
            )
            for t in trials
        ]
        acc = Objective(text)
    labels = [label, "hidden", "optimizer", "momentum", "depth", "augment"]
    y = Objective(text) if text else Objective("params", "min")
    history = one_shot(label=text or "normal")
    return {
        "history": charts.history(trials, acc),
        "history of failures": charts.history([t for t in trials if t.status is Status.FAILED], acc),
        "no history": charts.history([], acc),
        "curves": charts.curves(trials, metric),
        "no curves": charts.curves([], metric),
        "parallel": charts.parallel(trials, labels, [metric], space=None if text else SPACE),
        "parallel, top": charts.parallel(trials, labels, [], top=0.2),
        "durations": charts.durations(trials),
        "statuses": charts.statuses({Status.COMPLETED: 24, Status.FAILED: 4}),
        "pareto": charts.pareto(trials, acc, y),
        "importance": charts.importance({label: 0.75, "hidden": 0.25}),
        "alphas": charts.alphas(history, text or "normal", 2),
        "alphas of a choice": charts.alphas(history, "stem", -1),
        "search health": charts.search_health(history),
        "search health without score": charts.search_health(one_shot(with_score=False)),
        "blocks": charts.blocks(network(text or "features")),
    }
