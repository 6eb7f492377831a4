"""Trains a found network anew and tests it, with the paper's settings unless told otherwise.

    python benchmarks/cifar10/retrain.py --data.root DIR --genotype runs/darts/genotype.json --run runs/retrained
    python benchmarks/cifar10/retrain.py --data.root DIR --genotype DARTS_V2
    python benchmarks/cifar10/retrain.py --data.root DIR --genotype runs/darts/genotype.json --random 5

`--random N` also trains N random cells, which the search might have derived as well, in the same way, and writes the
comparison to `compare.json`, `compare.md` and `compare.png`. What is finished is not trained again; what was
interrupted goes on. All options: `--help`.

Source: Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, section 3.1 and A.2. The
test set is looked at once, at the end.
"""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import Cifar10
from jsonargparse import ArgumentParser
from lit import Classifier, add_options, checkpoint_of, trainer_of, write_json
from pictures import draw_comparison, draw_run
from pytorch_lightning import Trainer

from lightning_nas import SearchSpace, hub
from lightning_nas.hub import DARTS_OPERATIONS, DartsSpace, Genotype


def parser() -> ArgumentParser:
    """The options and their defaults."""
    made = ArgumentParser(description=__doc__)
    made.add_argument(
        "--genotype",
        type=str | None,
        default=None,
        help="genotype.json or sample.json of a search, a name such as DARTS_V2, or 'Genotype(...)'",
    )
    made.add_argument("--random", type=int, default=0, help="how many random cells to train as well")
    made.add_argument("--random_seed", type=int, default=0, help="decides which random cells")
    made.add_argument("--random_nodes", type=int, default=4, help="nodes of a random cell without --genotype")
    made.add_class_arguments(
        DartsSpace,
        "model",
        skip={"search", "num_classes", "nodes", "operations", "concat", "distinct", "stem"},
        instantiate=False,
    )
    add_options(
        made,
        "runs/retrain",
        {
            "model.channels": 36,
            "model.layers": 20,
            "model.auxiliary": True,
            "model.drop_path": 0.2,
            "training.lr_min": 0.0,
            "data.batch_size": 96,
            "data.held_out": 0.0,
            "data.cutout": 16,
            "trainer.max_epochs": 600,
        },
    )
    return made


def genotype_of(text: str) -> Genotype:
    """The genotype that `--genotype` means.

    Raises:
        SampleError: if it cannot be read.
        ValueError: if it is neither a file nor a published name nor a genotype's text.
    """
    if text.endswith(".json"):
        found = json.loads(Path(text).read_text())
        if "text" in found:
            return Genotype.parse(found["text"])
        return Genotype.from_sample(found)
    published = {name: value for name, value in vars(hub).items() if isinstance(value, Genotype)}
    if text in published:
        return published[text]
    if not text.lstrip().startswith("Genotype("):
        raise ValueError(
            f"`--genotype` must be a .json file, 'Genotype(...)', or one of {sorted(published)}, but got {text!r}."
        )
    return Genotype.parse(text)


def random_genotype(nodes: int, rng: np.random.Generator) -> Genotype:
    """A genotype drawn uniformly from those that a search can derive: two different states for each node."""
    return Genotype.from_sample(_distinct_space(nodes).sample(rng))


@functools.cache
def _distinct_space(nodes: int) -> SearchSpace:
    return DartsSpace(channels=4, layers=3, nodes=nodes, distinct=True).search_space


def shape_of(genotype: Genotype) -> dict[str, Any]:
    """The arguments of the `DartsSpace` that holds a genotype; JSON can hold them."""
    others = [operation for operation in genotype.operations if operation not in DARTS_OPERATIONS]
    return {
        "nodes": genotype.nodes,
        "operations": [*DARTS_OPERATIONS, *others],
        "concat": {cell: list(states) for cell, states in genotype.concat.items()},
    }


def train(options: Any, genotype: Genotype, run: Path) -> dict[str, Any]:
    """Trains and tests one network; writes curves, pictures and `best/` into `run`.

    Returns:
        What `result.json` holds. Read from there, if a run with the same genotype and settings is finished.
    """
    settings = {
        part: options[part].as_dict() for part in ("model", "training", "data")
    } | {"epochs": options.trainer.max_epochs, "seed": options.seed}  # fmt: skip
    told = {"genotype": str(genotype), "settings": json.loads(json.dumps(settings, default=str))}
    finished = run / "result.json"
    if finished.exists():
        known = json.loads(finished.read_text())
        if {name: known.get(name) for name in told} == told:
            return dict(known)
        raise ValueError(
            f"{finished} is of another genotype or of other settings; give another --run or remove it."
        )
    torch.manual_seed(options.seed)
    data = Cifar10(**options.data.as_dict(), seed=options.seed, channels_last=options.channels_last)
    data.prepare_data()
    data.setup()
    shape = {**options.model.as_dict(), **shape_of(genotype), "num_classes": data.num_classes}
    sample = genotype.sample()
    net = DartsSpace(**shape).build(sample)
    module = Classifier(
        net,
        **options.training.as_dict(),
        drop_path=options.model.drop_path,
        channels_last=options.channels_last,
        compile=options.compile,
    )
    trainer = trainer_of(options, run, [])
    trainer.fit(module, data, ckpt_path=checkpoint_of(options, run))
    metrics = {name: float(value) for name, value in trainer.test(module, data, verbose=False)[0].items()}
    parameters = sum(
        p.numel() for name, p in net.named_parameters() if not name.startswith("auxiliary_head.")
    )
    result = {
        **told,
        "test_accuracy": metrics["test/accuracy"],
        "test_loss": metrics["test/loss"],
        "parameters": parameters,
    }
    if trainer.is_global_zero:
        _keep(run / "best", net, {**shape, "auxiliary": False}, sample, result, data)
        write_json(
            run / "genotype.json",
            {name: getattr(genotype, name) for name in ("normal", "normal_concat", "reduce", "reduce_concat")}
            | {"text": str(genotype)},
        )
        draw_run(run)
        write_json(finished, result)
        print(f"{100 * result['test_accuracy']:.2f} % of the test images, {parameters:,} weights: {run}/")
    _wait(trainer)
    return result


def _keep(
    best: Path,
    net: torch.nn.Module,
    shape: dict[str, Any],
    sample: dict[str, Any],
    result: dict[str, Any],
    data: Cifar10,
) -> None:
    """Writes the trained network without its auxiliary head, which only serves training."""
    best.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in net.state_dict().items()
        if not name.startswith("auxiliary_head.")
    }
    torch.save(weights, best / "weights.pt")
    torch.save((next(iter(data.test_dataloader()))[0][:8].cpu().contiguous(),), best / "inputs.pt")
    write_json(best / "sample.json", sample)
    write_json(best / "space.json", shape)
    write_json(
        best / "metrics.json",
        {name: result[name] for name in ("test_accuracy", "test_loss", "parameters")},
    )


def _wait(trainer: Trainer) -> None:
    trainer.strategy.barrier()


def compare(derived: dict[str, Any], random: Sequence[dict[str, Any]], run: Path) -> dict[str, Any]:
    """The derived network beside random ones of the same budget, as JSON, Markdown and a picture."""
    scores = [row["test_accuracy"] for row in random]
    mean = statistics.mean(scores)
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    settings = derived["settings"]
    result = {
        "settings": settings,
        "derived": {name: derived[name] for name in ("genotype", "test_accuracy", "parameters")},
        "random": [
            {name: row[name] for name in ("genotype", "test_accuracy", "parameters")} for row in random
        ],
        "random_mean": mean,
        "random_std": spread,
        "difference": derived["test_accuracy"] - mean,
        "beaten": sum(derived["test_accuracy"] > score for score in scores),
    }
    write_json(run / "compare.json", result)
    rows = [("derived", derived), *((f"random {i}", row) for i, row in enumerate(random))]
    spread_text = "" if spread is None else f" ± {100 * spread:.2f}"
    lines = [
        f"Each trained for {settings['epochs']} epochs at C={settings['model']['channels']}, "
        f"L={settings['model']['layers']}, batch {settings['data']['batch_size']}, seed {settings['seed']}.",
        "",
        "| cell | test accuracy, % | weights |",
        "|---|---|---|",
        *(f"| {name} | {100 * row['test_accuracy']:.2f} | {row['parameters']:,} |" for name, row in rows),
        f"| mean of {len(scores)} random | {100 * mean:.2f}{spread_text} | |",
        f"| derived minus mean | {100 * result['difference']:+.2f} | |",
        "",
    ]
    (run / "compare.md").write_text("\n".join(lines))
    draw_comparison(result, run / "compare.png")
    return result


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains what the options ask for; returns the comparison, or the one result there is."""
    cli = parser()
    options = cli.parse_args(arguments)
    if options.genotype is None and options.random < 1:
        cli.error("give --genotype, --random, or both")
    run = Path(options.run)
    run.mkdir(parents=True, exist_ok=True)
    cli.save(options, run / "config.yaml", overwrite=True)
    derived, nodes = None, options.random_nodes
    if options.genotype is not None:
        genotype = genotype_of(options.genotype)
        nodes = genotype.nodes
        derived = train(options, genotype, run)
    random = []
    for i in range(options.random):
        rng = np.random.default_rng([options.random_seed, i])
        random.append(train(options, random_genotype(nodes, rng), run / f"random-{i}"))
    if derived is not None and random:
        result = compare(derived, random, run)
        print((run / "compare.md").read_text())
        return result
    return derived if derived is not None else random[-1]


if __name__ == "__main__":
    main()
