"""Claim: an in-process Lightning trial adds less than NNI's sequential engine or Optuna with SQLite does.

More than Optuna in memory, which keeps nothing; and a trial in a process of its own adds tens of ms and more.

Two trials. The script is `trial.py`, which imports `nni` (our shim), reads its parameters and reports a number; the
Lightning trial trains a linear layer for two batches of the digits. Each is run

    alone         the script by `subprocess.run` with the same environment; the fit in a loop
    optuna        in the objective of `study.optimize`, random sampler, study in memory (Optuna's default)
    optuna-sqlite the same with the study in a file of SQLite, so that it can go on after a crash, as ours can
    ours          script: `CommandEvaluator`, in a process of its own as `lightning-nas create` runs it;
                  Lightning: `hpo.tune`, "inprocess" and "processes" (the default)
    nni           NNI 3.0's sequential engine (`NasExperiment`, Random, `FunctionalEvaluator`) around the same fit, in
                  this process; in memory. With `--nni DIRECTORY`, where the head of
                  ../cifar10/speed/nni_step.py says how to install it.

One trial at a time; a trial's cost is the time from the end of one to the end of the next, so that starting a search
is left out. A B C ... A B C ... in rounds; medians and quartiles, and what comes on top of `alone`, by round. On a
busy machine look at the quartiles and at `load_average`.

    python benchmarks/cost/overhead.py [--rounds 5] [--nni DIRECTORY] [--output benchmarks/cost/overhead.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import common
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_nas.digits import split_digits

HERE = Path(__file__).resolve().parent
SCRIPT_TRIALS, FITS = 9, 16
ENDS = "ends.json"
TRAINER = {"max_epochs": 1, "limit_train_batches": 2, "accelerator": "cpu"}
QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


class Lit(pl.LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def training_step(self, batch: Any) -> Any:
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.lr)


DATA = DataLoader(split_digits().train, 64, shuffle=True)


def fit(lr: float) -> float:
    """What a user's own objective does: the trial without a search around it."""
    trainer = pl.Trainer(**TRAINER, **QUIET)
    trainer.fit(Lit(lr), DATA)
    return float(trainer.callback_metrics["loss"])


def run_script(x: float, folder: Path) -> float:
    """What an objective must do to run the script: its parameters in a file, its result from a file."""
    from lightning_nas.hpo import shim

    path = filter(None, [os.environ.get("PYTHONPATH")])
    (folder / ".nni").mkdir(parents=True)
    (folder / "parameter.cfg").write_text(json.dumps({"parameter_id": 0, "parameters": {"x": x}}))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # the same python
        "PYTHONPATH": os.pathsep.join([*path, str(Path(shim.__file__).parent)]),
        "NNI_PLATFORM": "local",
        "NNI_SYS_DIR": str(folder),
        "NNI_OUTPUT_DIR": str(folder),
        "NNI_TRIAL_JOB_ID": "trial",
        "NNI_TRIAL_SEQ_ID": "0",
        "NNI_EXP_ID": "experiment",
    }
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        subprocess.run(
            "python trial.py", shell=True, check=True, cwd=HERE, env=environment, stdout=out, stderr=err
        )
    last = (folder / ".nni" / "metrics").read_bytes().rsplit(b"ME", 1)[1]
    return float(json.loads(last[6:])["value"])


# -- searches: each returns when its trials ended, in seconds --------------------------------------------


def alone(trial: Callable[[float, Path], float], trials: int, folder: Path) -> list[float]:
    ends = []
    for i in range(trials):
        trial((i + 1) / trials, folder / str(i))
        ends.append(time.perf_counter())
    return ends


def with_optuna(
    trial: Callable[[float, Path], float], trials: int, folder: Path, in_file: bool = False
) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(),
        storage=f"sqlite:///{folder / 'study.db'}" if in_file else None,
    )
    ends = []
    study.optimize(
        lambda each: trial(each.suggest_float("x", 1e-3, 1), folder / str(each.number)),
        n_trials=trials,
        callbacks=[lambda study, each: ends.append(time.perf_counter())],
    )
    return ends


def our_script(folder: Path) -> list[float]:
    from lightning_nas import Experiment, Float
    from lightning_nas.hpo import CommandEvaluator
    from lightning_nas.strategies import Random

    evaluator = CommandEvaluator("python trial.py", HERE)
    experiment = Experiment(
        {"x": Float(1e-3, 1)},
        evaluator,
        Random(),
        directory=folder / "search",
        max_trials=SCRIPT_TRIALS,
        progress=False,
    )
    return ends_of(experiment.run())


def our_fits(folder: Path, runner: Any) -> list[float]:
    from lightning_nas import Float, hpo
    from lightning_nas.strategies import Random

    experiment = hpo.tune(
        Lit,
        {"lr": Float(1e-3, 1)},
        train_dataloaders=DATA,
        trainer=TRAINER,
        strategy=Random(),
        objective="loss",
        max_trials=FITS,
        directory=folder / "search",
        runner=runner,
        progress=False,
    )
    return ends_of(experiment)


def ends_of(experiment: Any) -> list[float]:
    failed = [trial.reason for trial in experiment.trials if trial.score is None]
    if failed:
        raise SystemExit(f"A trial failed: {failed[0]}")
    return sorted(trial.finished for trial in experiment.trials)


def with_nni(directory: Path, folder: Path) -> list[float]:
    """In a process of its own, where NNI is on the path."""
    path = os.pathsep.join([str(directory), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--only-nni"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "HOME": str(folder)},  # where NNI writes
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"NNI did not run:\n{done.stderr}")
    return list(json.loads((folder / ENDS).read_text()))


def only_nni() -> None:
    """Writes down when the trials of a search by NNI's sequential engine ended."""
    import nni
    from nni.mutable import ensure_frozen
    from nni.nas.evaluator import FunctionalEvaluator
    from nni.nas.experiment import NasExperiment, NasExperimentConfig
    from nni.nas.nn.pytorch import ModelSpace
    from nni.nas.strategy import Random

    class Space(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            x = self.add_mutable(nni.choice("x", [(i + 1) / 1000 for i in range(1000)]))
            self.register_buffer("x", torch.tensor(ensure_frozen(x)))

        def forward(self, x: Any) -> Any:
            return x

    ends: list[float] = []

    def evaluate(model: Any) -> None:
        nni.report_final_result(fit(model.x.item()))
        ends.append(time.perf_counter())

    config = NasExperimentConfig("sequential", "simplified", "local")
    config.max_trial_number = FITS
    NasExperiment(Space(), FunctionalEvaluator(evaluate), Random(), config).run()
    Path(ENDS).write_text(json.dumps(ends))


# -- the comparison ------------------------------------------------------------------------------------------


def ways(nni: Path | None) -> dict[str, dict[str, Callable[[Path], list[float]]]]:
    def a_fit(x: float, folder: Path) -> float:
        return fit(x)

    found: dict[str, dict[str, Callable[[Path], list[float]]]] = {
        "script": {
            "alone": lambda folder: alone(run_script, SCRIPT_TRIALS, folder),
            "optuna": lambda folder: with_optuna(run_script, SCRIPT_TRIALS, folder),
            "ours": our_script,
        },
        "lightning": {
            "alone": lambda folder: alone(a_fit, FITS, folder),
            "optuna": lambda folder: with_optuna(a_fit, FITS, folder),
            "optuna-sqlite": lambda folder: with_optuna(a_fit, FITS, folder, in_file=True),
            "ours, inprocess": lambda folder: our_fits(folder, "inprocess"),
            "ours, processes": lambda folder: our_fits(folder, "processes"),
        },
    }
    if nni is not None:
        found["lightning"]["nni"] = lambda folder: with_nni(nni, folder)
    return found


def measure(rounds: int, nni: Path | None) -> dict[str, dict[str, list[list[float]]]]:
    """The milliseconds of each trial, by kind of trial, way and round."""
    times: dict[str, dict[str, list[list[float]]]] = {}
    for number in range(rounds):
        for trial, searches in ways(nni).items():
            for way, search in searches.items():
                with tempfile.TemporaryDirectory() as folder:
                    ends = search(Path(folder))
                found = [(b - a) * 1e3 for a, b in pairwise(ends)]
                times.setdefault(trial, {}).setdefault(way, []).append(found)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return times


def summary(mine: list[list[float]], floor: list[list[float]]) -> dict[str, Any]:
    """One way beside `alone`; differences and ratios are of one round's medians, then their median."""
    medians = [(statistics.median(a), statistics.median(b)) for a, b in zip(mine, floor)]
    every = sorted(itertools.chain(*mine))
    return {
        "ms": round(statistics.median(every), 2),
        "quartiles_ms": common.quartiles(every, 2),
        "above_alone_ms": round(statistics.median(a - b for a, b in medians), 2),
        "ratio_to_alone": round(statistics.median(a / b for a, b in medians), 3),
        "medians_ms_by_round": [round(a, 2) for a, _ in medians],
    }


def main() -> None:
    parser = common.parser(__file__, __doc__, rounds=5)
    parser.add_argument("--nni", type=Path, help="where NNI 3.0 is installed")
    parser.add_argument("--only-nni", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if options.only_nni:
        only_nni()
        return
    load = [os.getloadavg()[0]]
    times = measure(options.rounds, options.nni and options.nni.resolve())
    results = {
        trial: {way: summary(found, rows["alone"]) for way, found in rows.items()}
        for trial, rows in times.items()
    }
    for trial, rows in results.items():
        print(f"\n| {trial} | ms per trial | quartiles | above alone | times alone |\n|---|---|---|---|---|")
        for way, row in rows.items():
            low, high = row["quartiles_ms"]
            print(
                f"| {way} | {row['ms']:.1f} | {low:.1f} to {high:.1f} | {row['above_alone_ms']:.1f} "
                f"| {row['ratio_to_alone']:.2f} |"
            )
    described = {
        "results": results,
        "rounds": options.rounds,
        "versions": {name: version(name) for name in ("torch", "pytorch-lightning", "optuna")}
        | ({"nni": "3.0"} if options.nni else {}),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
        "trials_per_round": {"script": SCRIPT_TRIALS, "lightning": FITS},
        "load_average": [*load, os.getloadavg()[0]],
    }
    common.write(options.output, described)


if __name__ == "__main__":
    main()
