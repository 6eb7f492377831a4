"""One search over the network, the learning rate and the batch size; then the winner alone, with the same score.

    python examples/joint/joint.py [--trials 20] [--epochs 5] [--directory runs/joint] [--output FILE.json]

The winner is handed over as a folder: `net.py` (which imports torch alone), the hyper-parameters, the images, and
where its training began. `rerun.py` trains it from there in a process that imports neither lightning_nas nor Lightning.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
from net import Digits, Lit, Net

from lightning_nas import Categorical, Experiment, Float, hpo, strategies
from lightning_nas.digits import split_digits
from lightning_nas.experiment import trial_seed

RERUN = Path(__file__).with_name("rerun.py")


def search(directory: Path, trials: int, epochs: int, seed: int, concurrency: int) -> tuple[Net, Experiment]:
    net = Net()
    space = net.search_space | {
        "lr": Float(1e-3, 0.5, log=True),
        "batch_size": Categorical([16, 32, 64, 128]),
    }
    experiment = hpo.tune(
        Lit,
        space,
        model=net,
        datamodule=Digits,
        trainer={"max_epochs": epochs, "accelerator": "cpu"},
        strategy=strategies.TPE(),
        objective="val_acc",
        max_trials=trials,
        directory=directory,
        seed=seed,
        concurrency=concurrency,
    )
    return net, experiment


def hand_over(net: Net, experiment: Experiment, epochs: int, seed: int, folder: Path) -> None:
    """Writes what the winner needs to be trained again: the code, the numbers, the images and the start.

    The start is the weights and the state of the random generator after the network was built. The trial's seed
    alone would not do: a network is built with all its candidates, which draw random numbers, and the code has
    only those that were chosen.
    """
    best = experiment.best
    assert best is not None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (code,) = experiment.export_top_models(formatter="code")
    shutil.copy(code, folder / "net.py")
    shutil.copy(RERUN, folder)
    settings = {label: value for label, value in best.sample.items() if label not in net.search_space}
    (folder / "settings.json").write_text(json.dumps({**settings, "epochs": epochs}, indent=2) + "\n")
    with torch.random.fork_rng():
        torch.manual_seed(trial_seed(seed, best.number))
        model = net.build({label: best.sample[label] for label in net.search_space})
        start = {"weights": model.state_dict(), "random": torch.get_rng_state()}
    torch.save(start, folder / "start.pt")
    splits = split_digits()
    torch.save({"train": splits.train.tensors, "val": splits.val.tensors}, folder / "images.pt")


def rerun(folder: Path) -> dict[str, Any]:
    """What `rerun.py` says, in a fresh interpreter that sees this folder alone (-I) and the libraries."""
    done = subprocess.run([sys.executable, "-I", folder / "rerun.py"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=Path("runs/joint"))
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args(arguments)
    net, experiment = search(
        options.directory, options.trials, options.epochs, options.seed, options.concurrency
    )
    best = experiment.best
    if best is None:
        raise SystemExit("No trial has ended with a score.")
    folder = experiment.directory / "alone"
    hand_over(net, experiment, options.epochs, options.seed, folder)
    again = rerun(folder)
    scores = [report.metrics["val_acc"] for report in best.intermediate]
    print(f"trial {best.number}: {best.sample}")
    print(f"accuracy by epoch, in the search: {[round(score, 4) for score in scores]}")
    print(f"accuracy by epoch, {folder} alone: {[round(score, 4) for score in again['val_acc']]}")
    is_same = again["val_acc"] == scores
    print("the same, to the last bit" if is_same else "NOT the same")
    if options.output:
        figures = {
            "sample": best.sample,
            "val_acc_in_the_search": scores,
            "val_acc_alone": again["val_acc"],
            "is_same": is_same,
            "imported_alone": again["imported"],
            "trials": len(experiment.trials),
            "epochs": options.epochs,
            "seed": options.seed,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pytorch_lightning": pytorch_lightning.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        }
        options.output.write_text(json.dumps(figures, indent=2) + "\n")
    if not is_same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
