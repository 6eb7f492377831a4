"""The same search with Lightning: `Classification` trains, no training code of our own.

python examples/mnist/search_lightning.py --root DIR
"""

from __future__ import annotations

from mnist import arguments, load, subset
from net import Net
from torch.utils.data import DataLoader
from winner import retrain_and_verify

from lightning_nas import Classification, Experiment, strategies


def main() -> None:
    options = arguments(__doc__)
    data = load(options.root)
    evaluator = Classification(
        learning_rate=1e-3,
        train_dataloaders=DataLoader(subset(data["train"], options.images), batch_size=64, shuffle=True),
        val_dataloaders=DataLoader(data["validation"], batch_size=500),
        max_epochs=options.epochs,
    )
    base_model = Net()
    exp = Experiment(
        base_model,
        evaluator,
        strategies.Random(dedup=True),
        directory=options.directory,
        max_trials=options.trials,
        concurrency=options.concurrency,
        objective="val_acc",
    )
    exp.run()
    for model_dict in exp.export_top_models(formatter="dict"):
        print(model_dict)
    retrain_and_verify(base_model, exp, options.root, options.retrain_epochs)


if __name__ == "__main__":
    main()
