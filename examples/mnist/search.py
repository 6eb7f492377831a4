"""Retiarii's quick start: Random search of Net on MNIST with a function of our own as evaluator.

python examples/mnist/search.py --root DIR
"""

from __future__ import annotations

from pathlib import Path

import torch
from mnist import accuracy, arguments, load, subset, train_epoch
from net import Net
from torch.utils.data import DataLoader
from winner import retrain_and_verify

import lightning_nas
from lightning_nas import Experiment, FunctionalEvaluator, strategies


def evaluate_model(model_cls, root: Path, images: int, epochs: int) -> None:
    # "model_cls" is a class, need to instantiate
    model = model_cls()
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = load(root)
    train_loader = DataLoader(subset(data["train"], images), batch_size=64, shuffle=True)
    for _ in range(epochs):
        # train the model for one epoch
        train_epoch(model, train_loader, optimizer)
        # test the model for one epoch
        score = accuracy(model, data["validation"])
        # call report intermediate result. Result can be float or dict
        lightning_nas.report_intermediate_result(score)
    # report final test result
    lightning_nas.report_final_result(score)


def main() -> None:
    options = arguments(__doc__)
    base_model = Net()
    search_strategy = strategies.Random(dedup=True)  # dedup=False if deduplication is not wanted
    evaluator = FunctionalEvaluator(
        evaluate_model, root=options.root, images=options.images, epochs=options.epochs
    )
    exp = Experiment(
        base_model,
        evaluator,
        search_strategy,
        directory=options.directory,
        max_trials=options.trials,
        concurrency=options.concurrency,
    )
    exp.run()
    for model_dict in exp.export_top_models(formatter="dict"):
        print(model_dict)
    retrain_and_verify(base_model, exp, options.root, options.retrain_epochs)


if __name__ == "__main__":
    main()
