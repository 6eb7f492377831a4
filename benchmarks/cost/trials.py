"""Claim: a no-op trial costs below 2 ms in this process, and below 60 ms in a process of its own.

A trial is all that happens to it: asking the strategy, two writes to the store (the second with fsync,
whose own time on this disk stands beside it), running, keeping the best. Random search over one label,
one trial at a time; the cost is the time from the end of a trial to the end of the next. A: in this
process. B: in processes forked from the warm server. A B A B, medians and quartiles of all rounds;
then B with two at a time, as trials per second. On a machine that is busy with other work fsync alone
may take 4 ms, a tick of the scheduler: see `load_average` and `fsync_ms`.

    python benchmarks/cost/trials.py [--rounds 5] [--output benchmarks/cost/trials.json]
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from itertools import pairwise
from typing import Any

from common import parser, quartiles, write

from lightning_nas.experiment import Experiment
from lightning_nas.space import Float
from lightning_nas.strategies import Random

TRIALS = {"inprocess": 200, "processes": 30}
LIMITS_MS = {"inprocess": 2.0, "processes": 60.0}


class DoesNothing:
    def evaluate(self, candidate, report):
        return candidate.sample["x"]


def search(runner: Any, concurrency: int = 1) -> list[float]:
    """When each trial of a search ended, in seconds."""
    with tempfile.TemporaryDirectory() as directory:
        experiment = Experiment(
            {"x": Float(0, 1)},
            DoesNothing(),
            Random(),
            directory=directory,
            max_trials=TRIALS[runner],
            runner=runner,
            concurrency=concurrency,
            progress=False,
        )
        return sorted(trial.finished or 0.0 for trial in experiment.run().trials)


def fsync_ms(repeats: int = 50) -> list[float]:
    """What the disk takes to keep 4 KiB."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(repeats):
            file.write(bytes(4096))
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - start) * 1e3)
    return times


def milliseconds(ends: list[float]) -> list[float]:
    return [(later - earlier) * 1e3 for earlier, later in pairwise(ends)]


def main() -> None:
    options = parser(__file__, __doc__, rounds=5).parse_args()
    search("processes")  # warms the server and the file system
    times: dict[str, list[float]] = {"inprocess": [], "processes": []}
    rates, syncs = [], []
    for _ in range(options.rounds):
        syncs += fsync_ms()
        for runner, found in times.items():
            found += milliseconds(search(runner))
        ends = search("processes", concurrency=2)
        rates.append((len(ends) - 1) / (ends[-1] - ends[0]))
    results: dict[str, Any] = {}
    for runner, found in times.items():
        results[f"{runner}_ms"] = statistics.median(found)
        results[f"{runner}_ms_quartiles"] = quartiles(found, 3)
        results[f"{runner}_is_below_{LIMITS_MS[runner]:.0f}_ms"] = results[f"{runner}_ms"] < LIMITS_MS[runner]
    results |= {
        "ratio": results["processes_ms"] / results["inprocess_ms"],
        "fsync_ms": statistics.median(syncs),
        "two_at_a_time_trials_per_s": statistics.median(rates),
        "rounds": options.rounds,
        "trials_per_round": TRIALS,
    }
    write(options.output, results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
