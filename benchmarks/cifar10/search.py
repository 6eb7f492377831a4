"""Searches the cells of DARTS on CIFAR-10, with the paper's settings unless told otherwise.

    python benchmarks/cifar10/search.py --data.root DIR --run runs/darts

`--graphed` searches in a loop of its own, with CUDA graphs; see `graphed.py`.

An interrupted run goes on where it was when the same command is given again. Any one-shot method takes the
place of DARTS: `--method PCDarts`, `--method Darts --method.order 2`. All options: `--help`.

Source: Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, section 3.1 and A.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import graphed
import torch
from data import Cifar10
from jsonargparse import ArgumentParser
from lit import Classifier, add_options, checkpoint_of, trainer_of, write_json
from pictures import draw_run
from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_nas.hub import DARTS_OPERATIONS, DartsSpace, Genotype
from lightning_nas.oneshot import OneShot
from lightning_nas.search_history import FILE as SEARCH_FILE


def parser() -> ArgumentParser:
    """The options and their defaults."""
    made = ArgumentParser(description=__doc__)
    made.add_subclass_arguments(
        OneShot,
        "method",
        skip={"search_data", "search_share", "history_file"},
        help="the one-shot method and its settings",
    )
    made.add_class_arguments(
        DartsSpace,
        "model",
        skip={"search", "auxiliary", "drop_path", "num_classes", "concat", "stem"},
        instantiate=False,
    )
    made.add_argument(
        "--graphed",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="first order, one device: CUDA graphs in the place of Lightning's loop",
    )
    add_options(
        made,
        "runs/search",
        {
            "method": {"class_path": "lightning_nas.Darts"},
            "model.channels": 16,
            "model.layers": 8,
            "model.operations": ["none", *DARTS_OPERATIONS],
            "trainer.max_epochs": 50,
        },
    )
    made.link_arguments("seed", "method.init_args.seed")
    return made


class Diary(Callback):
    """Writes the genotype after each epoch; the method itself writes the history of its alphas."""

    def __init__(self, method: OneShot, run: Path) -> None:
        self.method = method
        self.run = run

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        sample = self.method.sample()
        write_json(self.run / "sample.json", sample)
        write_json(self.run / "genotype.json", as_json(Genotype.from_sample(sample)))


def as_json(genotype: Genotype) -> dict[str, Any]:
    """Edges as `[operation, state]`, and the text form beside them."""
    return {
        "normal": genotype.normal,
        "normal_concat": genotype.normal_concat,
        "reduce": genotype.reduce,
        "reduce_concat": genotype.reduce_concat,
        "text": str(genotype),
    }


def main(arguments: Sequence[str] | None = None) -> Genotype:
    """Searches, writes everything into the run's folder, and returns the genotype."""
    cli = parser()
    options = cli.parse_args(arguments)
    run = Path(options.run)
    torch.manual_seed(options.seed)
    data = Cifar10(**options.data.as_dict(), seed=options.seed, channels_last=options.channels_last)
    data.prepare_data()
    data.setup()
    # The older name warns from jsonargparse 4.49 on, which has the newer one.
    instantiate = getattr(cli, "instantiate", None) or cli.instantiate_classes
    method = instantiate(options).method
    method.search_data = data.search_dataloader
    method.history_file = run / SEARCH_FILE
    net = DartsSpace(**options.model.as_dict(), num_classes=data.num_classes, search=True)
    module = Classifier(
        net, **options.training.as_dict(), channels_last=options.channels_last, compile=options.compile
    )
    diary = Diary(method, run)
    trainer = None if options.graphed else trainer_of(options, run, [method, diary])
    is_first = trainer is None or trainer.is_global_zero
    if trainer is None:
        graphed.check(options, cli.get_defaults().trainer, method)
    if is_first:
        run.mkdir(parents=True, exist_ok=True)
        cli.save(options, run / "config.yaml", overwrite=True)
    if trainer is None:
        graphed.search(options, data, module, method, run, diary.write)
    else:
        trainer.fit(module, data, ckpt_path=checkpoint_of(options, run))
    genotype = Genotype.from_sample(method.sample())
    if is_first:
        diary.write()
        draw_run(run)
        print(genotype)
        print(f"Everything is in {run}/; next: retrain.py --genotype {run / 'genotype.json'}")
    return genotype


if __name__ == "__main__":
    main()
