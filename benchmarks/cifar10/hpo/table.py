"""The lab's table: the settings as they come, set by hand, and tuned, each trained with several seeds.

    python table.py EXPERIMENT [--seeds 3] [--output FILE.json] [-- options of main.py, for all three]

EXPERIMENT is the folder of a search by `lightning-nas create`; its best trial is the tuned setting. Every training
sees all training images and is judged by the test images after its last epoch; the search saw neither the test images
nor, in its weights, those it judged by. The settings take turns, seed by seed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from main import main as train
from main import parser as options_of_main

from lightning_nas.errors import NASError
from lightning_nas.experiment import SqliteStore

BY_HAND = {"initial_lr": 0.01}
"""What the lab's text proposes to try first; chosen before anything was run."""


def tuned(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of an experiment's best trial, and what the experiment was."""
    try:
        with contextlib.closing(SqliteStore.open(directory)) as store:
            best, trials = store.best(), store.trials()
    except NASError as error:
        raise SystemExit(str(error)) from None
    if best is None:
        raise SystemExit(f"{directory} has no trial with a score.")
    file = directory / "trials" / f"{best.number}" / "parameter.cfg"
    search = {
        "trials": dict(collections.Counter(trial.status.value for trial in trials)),
        "epochs": sum(len(trial.intermediate) for trial in trials),
        "best_trial": best.number,
        "best_accuracy_held_out": best.score,
        "seconds_of_trials": round(sum(trial.duration_s or 0.0 for trial in trials)),
    }
    return json.loads(file.read_text())["parameters"], search


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    ours, common = sys.argv[1:], []
    if "--" in ours:
        cut = ours.index("--")
        ours, common = ours[:cut], ours[cut + 1 :]
    options = parser.parse_args(ours)
    best, search = tuned(options.experiment)
    settings: dict[str, dict[str, Any]] = {"default": {}, "by hand": BY_HAND, "tuned": best}
    warnings.filterwarnings("ignore", "Running NNI code without runtime")
    start = time.perf_counter()
    found: dict[str, list[float]] = {name: [] for name in settings}
    for seed in range(options.seeds):
        for name, values in settings.items():
            args = options_of_main().parse_args(common)
            vars(args).update(values, seed=seed, held_out=0.0)
            found[name].append(100 * train(args))
    print("\n| | hyper-parameters | test accuracy |\n|---|---|---|")
    for name, values in settings.items():
        written = " ".join(
            f"--{key} {value:.4g}" if isinstance(value, float) else f"--{key} {value}"
            for key, value in values.items()
        )
        mean = statistics.mean(found[name])
        spread = f" ± {statistics.stdev(found[name]):.1f}" if options.seeds > 1 else ""
        print(f"| {name} | {written or 'those of main.py'} | {mean:.1f}%{spread} |")
    described = {
        "settings": settings,
        "common": common,
        "test_accuracy_percent_by_seed": {k: [round(v, 2) for v in values] for k, values in found.items()},
        "seeds": list(range(options.seeds)),
        "search": search,
        "seconds_of_the_table": round(time.perf_counter() - start),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    if options.output:
        options.output.write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
