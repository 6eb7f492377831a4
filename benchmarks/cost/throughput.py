"""Claim: with two workers, at least 100 no-op trials/s in reused processes and 20 in fresh ones.

A trial asks a random strategy, runs in a worker and is stored so that a power cut cannot take it (but for the
bare pool and Optuna in memory, which store nothing; Optuna's RDB is SQLite). In one run, A B A B:

    inprocess     Experiment(runner="inprocess"), one at a time
    processes     Experiment(), a fresh process per trial
    reuse         Experiment(reuse=True)
    ray           Experiment(runner="ray"), where ray is installed
    pool          concurrent.futures.ProcessPoolExecutor(2), from a server: two futures at a time
    optuna        study.optimize(n_jobs=2), threads, storage in memory
    optuna-rdb    two processes, each with study.optimize on the same SQLite storage

Steady state: trials per second between the end of the first tenth and that of the last trial. Start-up: from
the call to the end of the first trial, in the first round (servers cold) and the median of the others. Medians
and quartiles of the rounds; ratios of medians. CPU is that of the calling process per trial.

    python benchmarks/cost/throughput.py [--rounds 5] [--output benchmarks/cost/throughput.json]
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np
from common import in_turn, parser, quartiles, write

from lightning_nas.experiment import Experiment
from lightning_nas.space import Float
from lightning_nas.strategies import Random

TRIALS = {"inprocess": 300, "processes": 100, "reuse": 500, "ray": 300, "pool": 2000, "optuna": 500}
TRIALS["optuna-rdb"] = 60
LIMITS = {"processes": 20.0, "reuse": 100.0}


class DoesNothing:
    def evaluate(self, candidate, report):
        return candidate.sample["x"]


def ours(number: int, **settings: Any) -> list[float]:
    """When each trial ended, in Unix seconds."""
    with tempfile.TemporaryDirectory() as directory:
        experiment = Experiment(
            {"x": Float(0, 1)},
            DoesNothing(),
            Random(),
            directory=directory,
            max_trials=number,
            progress=False,
            **settings,
        )
        return [trial.finished or 0.0 for trial in experiment.run().trials]


def same(x: float) -> float:
    return x


def pool(number: int) -> list[float]:
    """Two futures at a time, the next one made when one is done, as in a search."""
    rng, ends = np.random.default_rng(0), []
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as executor:
        running = {executor.submit(same, rng.random()) for _ in range(2)}
        while len(ends) < number:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            ends += [time.time()] * len(done)
            running |= {executor.submit(same, rng.random()) for _ in done}
    return ends[:number]


def objective(trial: Any) -> float:
    return float(trial.suggest_float("x", 0, 1))


def optimize(storage: str | None, number: int, n_jobs: int) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler()
    study = optuna.create_study(storage=storage, study_name="noop", sampler=sampler, load_if_exists=True)
    study.optimize(objective, n_trials=number, n_jobs=n_jobs)
    return [trial.datetime_complete.timestamp() for trial in study.trials if trial.datetime_complete]


def optuna_in_memory(number: int) -> list[float]:
    return optimize(None, number, n_jobs=2)


def optuna_rdb(number: int) -> list[float]:
    with (
        tempfile.TemporaryDirectory() as directory,
        ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as executor,
    ):
        storage = f"sqlite:///{directory}/study.db"
        optimize(storage, 0, n_jobs=1)
        halves = [executor.submit(optimize, storage, number // 2, 1) for _ in range(2)]
        return max((half.result() for half in halves), key=len)  # that of the later one has all


def rows() -> dict[str, Callable[[int], list[float]]]:
    found: dict[str, Callable[[int], list[float]]] = {
        "inprocess": partial(ours, runner="inprocess"),
        "processes": ours,
        "reuse": partial(ours, reuse=True),
        "pool": pool,
    }
    if importlib.util.find_spec("ray") and importlib.util.find_spec(
        "lightning_nas.experiment.runners.ray_cluster"
    ):
        found["ray"] = partial(ours, runner="ray")
    if importlib.util.find_spec("optuna"):
        found["optuna"] = optuna_in_memory
        found["optuna-rdb"] = optuna_rdb
    return found


def measured(run: Callable[[int], list[float]], number: int) -> dict[str, float]:
    began, cpu = time.time(), time.process_time()
    ends = sorted(run(number))
    cpu = time.process_time() - cpu
    tenth = number // 10
    return {
        "trials_per_s": (len(ends) - tenth) / (ends[-1] - ends[tenth - 1]),
        "start_s": ends[0] - began,
        "driver_cpu_ms": cpu * 1e3 / number,
    }


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    rates = [each["trials_per_s"] for each in rounds]
    return {
        "trials_per_s": round(statistics.median(rates), 1),
        "quartiles": quartiles(rates, 1),
        "first_start_s": round(rounds[0]["start_s"], 3),
        "start_s": round(statistics.median(each["start_s"] for each in rounds[1:]), 3),
        "driver_cpu_ms": round(statistics.median(each["driver_cpu_ms"] for each in rounds), 2),
    }


def main() -> None:
    options = parser(__file__, __doc__, rounds=5).parse_args()
    ways = {name: partial(measured, run, TRIALS[name]) for name, run in rows().items()}
    times = in_turn(max(2, options.rounds), ways)
    results: dict[str, Any] = {name: summary(rounds) for name, rounds in times.items()}
    rates = {name: row["trials_per_s"] for name, row in results.items()}
    for name, limit in LIMITS.items():
        results[f"{name}_is_above_{limit:.0f}_per_s"] = rates[name] >= limit
    results |= {
        "reuse_to_pool": round(rates["reuse"] / rates["pool"], 3),
        "rounds": options.rounds,
        "trials_per_round": {name: TRIALS[name] for name in times},
    }
    write(options.output, results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
