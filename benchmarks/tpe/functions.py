"""Claim: on six functions `TPE` reaches what Optuna's own TPE reaches, within its standard deviation.

Minimised: Branin, Hartmann6, Sphere, Rosenbrock and Ackley in five dimensions, and `cat6x5`, an additive
table of six labels with five options each and optimum 0. Best value after 50 and after 100 trials, one
at a time; median, mean and standard deviation over 20 seeds. Optuna runs beside ours in the same
process, with its defaults; its published column (version 5.0.0) stands beside that.

    python benchmarks/tpe/functions.py [--seeds 20] [--only Branin,cat6x5]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from lightning_nas.space import Categorical, Float, SearchSpace
from lightning_nas.strategies import (
    TPE,
    Anneal,
    LocalSearch,
    Random,
    RegularizedEvolution,
    Strategy,
    generator,
)
from lightning_nas.trial import Status, Trial

HERE = Path(__file__).resolve().parent
BUDGETS = (50, 100)


def branin(x: np.ndarray) -> float:
    """Optimum 0.3979. `x` in [-5, 10] x [0, 15]."""
    a = x[1] - 5.1 / (4 * math.pi**2) * x[0] ** 2 + 5 / math.pi * x[0] - 6
    return float(a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x[0]) + 10)


HARTMANN_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(x: np.ndarray) -> float:
    """Optimum -3.3224. `x` in [0, 1]^6."""
    inner = (HARTMANN_A * (x - HARTMANN_P) ** 2).sum(axis=1)
    return float(-np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-inner))


def sphere(x: np.ndarray) -> float:
    return float(x @ x)


def rosenbrock(x: np.ndarray) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def ackley(x: np.ndarray) -> float:
    waves = np.exp(np.cos(2 * math.pi * x).mean())
    return float(-20 * np.exp(-0.2 * np.sqrt((x * x).mean())) - waves + 20 + math.e)


# Each label costs nothing at its best option and up to 1 at the others.
COSTS = np.random.default_rng(0).random((6, 5))
COSTS -= COSTS.min(axis=1, keepdims=True)


def cat6x5(x: np.ndarray) -> float:
    return float(COSTS[np.arange(6), x.astype(int)].sum())


@dataclass(frozen=True)
class Function:
    """What is minimised, over which space, and what Optuna's TPE 5.0.0 reached (published)."""

    value: Callable[[np.ndarray], float]
    space: SearchSpace
    published: tuple[tuple[float, float, float], tuple[float, float, float]]

    def __call__(self, sample: Mapping[str, float]) -> float:
        return self.value(np.array([sample[f"x{i}"] for i in range(len(self.space))]))


def box(*ends: tuple[float, float]) -> SearchSpace:
    return SearchSpace({f"x{i}": Float(low, high) for i, (low, high) in enumerate(ends)})


FUNCTIONS = {
    "Branin": Function(
        branin, box((-5.0, 10.0), (0.0, 15.0)), ((0.507, 0.537, 0.136), (0.417, 0.421, 0.021))
    ),
    "Hartmann6": Function(
        hartmann6, box(*[(0.0, 1.0)] * 6), ((-2.992, -2.920, 0.209), (-3.228, -3.182, 0.097))
    ),
    "Sphere5": Function(sphere, box(*[(-5.0, 5.0)] * 5), ((1.312, 1.316, 0.613), (0.251, 0.281, 0.124))),
    "Rosenbrock5": Function(rosenbrock, box(*[(-2.0, 2.0)] * 5), ((15.65, 21.16, 13.02), (5.87, 6.21, 1.82))),
    "Ackley5": Function(ackley, box(*[(-32.768, 32.768)] * 5), ((11.61, 11.53, 1.23), (6.95, 6.73, 0.95))),
    "cat6x5": Function(
        cat6x5,
        SearchSpace({f"x{i}": Categorical(range(5)) for i in range(6)}),
        ((0.213, 0.212, 0.145), (0.000, 0.036, 0.049)),
    ),
}

STRATEGIES: dict[str, Strategy] = {
    "TPE": TPE(),
    "TPE(dedup=False)": TPE(dedup=False),
    "Random(dedup=False)": Random(dedup=False),
    "RegularizedEvolution(20, 5)": RegularizedEvolution(population_size=20, sample_size=5),
    "LocalSearch": LocalSearch(),
    "Anneal": Anneal(),
}


def search(function: Function, strategy: Strategy, seed: int) -> list[float]:
    """The best value at each budget."""
    trials: list[Trial] = []
    values = []
    for number in range(BUDGETS[-1]):
        sample = strategy.ask(function.space, trials, generator(strategy, seed, number))
        values.append(function(sample))
        trials.append(Trial(number, sample, Status.COMPLETED, {"value": values[-1]}, score=-values[-1]))
    return [min(values[:budget]) for budget in BUDGETS]


def search_with_optuna(function: Function, seed: int) -> list[float]:
    """The same by Optuna alone, with its defaults."""

    def objective(trial: optuna.Trial) -> float:
        sample = {
            label: trial.suggest_categorical(label, domain.values)
            if isinstance(domain, Categorical)
            else trial.suggest_float(label, domain.low, domain.high)
            for label, domain in function.space.items()
        }
        return function(sample)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=BUDGETS[-1])
    values = [trial.value for trial in study.trials]
    return [min(values[:budget]) for budget in BUDGETS]


def _job(job: tuple[str, str, int]) -> tuple[str, str, int, list[float]]:
    function, name, seed = job
    if name == "Optuna":
        return *job, search_with_optuna(FUNCTIONS[function], seed)
    return *job, search(FUNCTIONS[function], STRATEGIES[name], seed)


def summary(values: np.ndarray) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 4),
        "mean": round(float(values.mean()), 4),
        "std": round(float(values.std()), 4),
    }


def as_markdown(results: dict[str, dict]) -> str:
    """One row per function and budget: median / mean ± standard deviation."""
    names = ["Optuna", *STRATEGIES]
    lines = [
        f"| function, trials | Optuna 5.0.0, published | {' | '.join(names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for function, found in results.items():
        for i, budget in enumerate(BUDGETS):
            median, mean, std = FUNCTIONS[function].published[i]
            cells = [f"{median:.3f} / {mean:.3f} ± {std:.3f}"]
            for name in names:
                one = found[name][i]
                cells.append(f"{one['median']:.3f} / {one['mean']:.3f} ± {one['std']:.3f}")
            lines.append(f"| {function}, {budget} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="searches per function, seeds 0, 1, ...")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="functions, separated by commas")
    parser.add_argument("--output", type=Path, default=HERE / "functions.json")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(FUNCTIONS)
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    names = ["Optuna", *STRATEGIES]
    jobs = [(f, name, seed) for f in chosen for name in names for seed in range(options.seeds)]
    runs: dict[tuple[str, str], dict[int, list[float]]] = {(f, name): {} for f in chosen for name in names}
    start = time.perf_counter()
    with multiprocessing.get_context("fork").Pool(options.processes) as pool:
        for done, (function, name, seed, values) in enumerate(pool.imap_unordered(_job, jobs), start=1):
            runs[function, name][seed] = values
            if done % (len(jobs) // 20 + 1) == 0 or done == len(jobs):
                seconds = time.perf_counter() - start
                print(f"{done} of {len(jobs)} searches, {seconds:.0f} s", file=sys.stderr, flush=True)

    results: dict[str, dict] = {}
    for function in chosen:
        results[function] = {}
        for name in names:
            values = np.array([runs[function, name][seed] for seed in range(options.seeds)])
            results[function][name] = [summary(values[:, i]) for i in range(len(BUDGETS))]
    print(as_markdown(results))
    for function, found in results.items():
        for i, budget in enumerate(BUDGETS):
            _, mean, std = FUNCTIONS[function].published[i]
            if found["TPE"][i]["mean"] > mean + std:
                print(f"MISSED: {function} after {budget}: {found['TPE'][i]['mean']} > {mean} + {std}")
    described = {
        "budgets": BUDGETS,
        "seeds": options.seeds,
        "seconds": round(time.perf_counter() - start, 1),
        "optuna": optuna.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=HERE
        ).stdout.strip(),
        "results": results,
    }
    options.output.write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
