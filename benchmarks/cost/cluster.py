"""Claim: on Ray a no-op trial costs about what it costs in a process of this machine, and a report takes milliseconds.

Both run trials in processes forked from a warm server, two at a time; Ray adds a message there and back. One round: a
runner is started (Ray itself already runs: its own start stands beside), runs 20 trials to be warm, then 100 whose
time counts, then one trial that reports 200 times. Processes and Ray in turn, A B A B; medians of all rounds.

    python benchmarks/cost/cluster.py [--rounds 3] [--output benchmarks/cost/cluster.json]
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from common import in_turn, parser, write

from lightning_nas.experiment.runners import Job, ProcessRunner, RayRunner, Runner, Work

REPORTS = 200


class Nothing:
    """A trial that does nothing, or only reports."""

    def evaluate(self, candidate, report):
        began = time.perf_counter()
        for step in range(candidate.sample["reports"]):
            report(step, {"x": 0.0})
        return 1000 * (time.perf_counter() - began)


def run(runner: Runner, directory: Path, count: int, reports: int = 0) -> list[float]:
    """The results of `count` trials."""
    results: list[float] = []
    waiting = count
    while len(results) < count:
        while waiting and runner.free:
            waiting -= 1
            runner.submit(Job(waiting, {"reports": reports}, directory / str(waiting), 0))
        for outcome in runner.poll(0.1, lambda number, step, metrics: True):
            assert outcome.metrics is not None, outcome
            results.append(outcome.metrics["default"])
    return results


def measure(make: Callable[[Work, Path], Runner]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        began = time.perf_counter()
        runner = make(Work(Nothing()), directory)
        try:
            ready = time.perf_counter()
            run(runner, directory, 20)
            warm = time.perf_counter()
            run(runner, directory, 100)
            ended = time.perf_counter()
            (took_ms,) = run(runner, directory, 1, REPORTS)
        finally:
            runner.close()
    return {
        "start_s": ready - began,
        "trials_per_s": 100 / (ended - warm),
        "report_ms": took_ms / REPORTS,
    }


def main() -> None:
    import ray

    options = parser(__file__, __doc__, rounds=3).parse_args()
    began = time.perf_counter()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray_start_s = time.perf_counter() - began
    runners: dict[str, Callable[[Work, Path], Runner]] = {
        "processes": lambda work, directory: ProcessRunner(work, 2, directory),
        "ray": lambda work, directory: RayRunner(work, 2, directory),
    }
    rounds = in_turn(options.rounds, {name: partial(measure, make) for name, make in runners.items()})
    medians = {
        name: {key: round(statistics.median(each[key] for each in measured), 3) for key in measured[0]}
        for name, measured in rounds.items()
    }
    result: dict[str, Any] = {
        "medians": medians,
        "rounds": rounds,
        "ray_start_s": round(ray_start_s, 2),
        "versions": {name: metadata.version(name) for name in ("ray", "torch")},
    }
    write(options.output, result)
    print(json.dumps({**medians, "ray_start_s": result["ray_start_s"]}, indent=2))


if __name__ == "__main__":
    main()
