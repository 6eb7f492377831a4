"""Claim: `ask` at 10,000 finished trials takes below 5 ms for Random and RegularizedEvolution.

The space has 20 labels with eight values each. Each ask comes after one more trial, as in a search, so what
a strategy remembers of the others is warm; `first_ms` is the first ask of a fresh object, as after a
resume. Times are medians with quartiles, one thread; the others stand beside for comparison.

    python benchmarks/cost/ask.py [--trials 10000] [--runs 50] [--output benchmarks/cost/ask.json]
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from common import parser, quartiles, write

from lightning_nas.space import Categorical, SearchSpace
from lightning_nas.strategies import (
    TPE,
    Anneal,
    GridSearch,
    LocalSearch,
    Random,
    RegularizedEvolution,
    Strategy,
    generator,
)
from lightning_nas.trial import Status, Trial

SPACE = SearchSpace({f"layer_{i}": Categorical(range(8)) for i in range(20)})

STRATEGIES: dict[str, Strategy] = {
    "Random": Random(),
    "RegularizedEvolution": RegularizedEvolution(),
    "GridSearch": GridSearch(),
    "Anneal": Anneal(),
    "LocalSearch": LocalSearch(),
    "TPE": TPE(),
}


def finished(number: int, sample: dict) -> Trial:
    score = float(sum(sample.values()))
    return Trial(number, sample, Status.COMPLETED, {"default": score}, score)


def milliseconds_per_ask(strategy: Strategy, trials: list[Trial], runs: int) -> list[float]:
    """The time of each ask, the first one included; `trials` grows by one each time."""
    trials, times = list(trials), []
    for _ in range(runs + 1):
        rng = generator(strategy, 0, len(trials))
        start = time.perf_counter()
        sample = strategy.ask(SPACE, trials, rng)
        times.append((time.perf_counter() - start) * 1e3)
        trials.append(finished(len(trials), sample))
    return times


def main() -> None:
    options = parser(__file__, __doc__, trials=10_000, runs=50).parse_args()
    rng = np.random.default_rng(0)
    trials = [finished(number, SPACE.sample(rng)) for number in range(options.trials)]
    results: dict[str, object] = {}
    for name, strategy in STRATEGIES.items():
        first, *times = milliseconds_per_ask(strategy, trials, 5 if name == "TPE" else options.runs)
        results[name] = {
            "ask_ms": round(statistics.median(times), 3),
            "quartiles_ms": quartiles(times, 3),
            "first_ms": round(first, 1),
        }
        print(name, results[name], flush=True)
    results |= {
        "trials": options.trials,
        "runs": options.runs,
        "numpy": np.__version__,
    }
    write(options.output, results)


if __name__ == "__main__":
    main()
