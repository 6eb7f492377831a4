"""What search and retraining share: the LightningModule, the record of its curves, and the options."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from data import Cifar10
from jsonargparse import ArgumentParser
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from lightning_nas.hub import set_drop_path

CONFIGS = Path(__file__).parent / "configs"


class Classifier(LightningModule):
    """Trains a network of the DARTS space by SGD with a cosine schedule, as the paper does.

    Args:
        net: (b, 3, h, w) -> logits (b, classes); in training it may give a pair, the second from an auxiliary
            head.
        lr, lr_min: learning rate in the first epoch, and that the cosine ends at behind the last one.
        momentum, weight_decay: of SGD.
        auxiliary_weight: weight of the auxiliary head's loss.
        drop_path: probability that is reached behind the last epoch; it grows linearly from 0.
        channels_last: the memory format of the weights.
        compile: backend of torch.compile for each cell, such as "inductor"; None leaves the cells as they are.
    """

    def __init__(
        self,
        net: nn.Module,
        lr: float = 0.025,
        lr_min: float = 0.001,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        auxiliary_weight: float = 0.4,
        drop_path: float = 0.0,
        channels_last: bool = False,
        compile: str | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.save_hyperparameters(ignore=["net"])

    def forward(self, x: Tensor) -> Any:
        return self.net(x)

    def on_fit_start(self) -> None:
        # Only now are a search's mixed operations in their places; both keep the parameters that the optimizer has.
        if self.hparams["channels_last"]:
            self.net.to(memory_format=torch.channels_last)
        if self.hparams["compile"] is not None:
            # Each cell has code for the step on the alphas, that on the weights, and validation.
            limit = max(torch._dynamo.config.recompile_limit, 4 * len(self.net.cells))
            torch._dynamo.config.recompile_limit = limit
            for cell in self.net.cells:
                cell.compile(backend=self.hparams["compile"])

    def on_train_epoch_start(self) -> None:
        if self.hparams["drop_path"]:
            done = self.current_epoch / max(self.trainer.max_epochs or 1, 1)
            set_drop_path(self.net, self.hparams["drop_path"] * done)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        output = self.net(x)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        loss = nn.functional.cross_entropy(logits, y)
        self._log("train", logits, y, loss)
        if auxiliary is not None:
            loss = loss + self.hparams["auxiliary_weight"] * nn.functional.cross_entropy(auxiliary, y)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", *batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", *batch)

    def _evaluate(self, part: str, x: Tensor, y: Tensor) -> None:
        logits = self.net(x)
        self._log(part, logits, y, nn.functional.cross_entropy(logits, y))

    def _log(self, part: str, logits: Tensor, y: Tensor, loss: Tensor) -> None:
        """Means over an epoch, kept on the device until then."""
        accuracy = (logits.argmax(1) == y).float().mean()
        metrics = {f"{part}/loss": loss.detach(), f"{part}/accuracy": accuracy}
        self.log_dict(
            metrics, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(y), sync_dist=part != "train"
        )

    def configure_optimizers(self) -> Any:
        settings = self.hparams
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=settings["lr"],
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
        )
        epochs = max(self.trainer.max_epochs or 1, 1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, settings["lr_min"])
        return [optimizer], [schedule]


class Curves(Callback):
    """Records each epoch's metrics and seconds in a JSON file; a resumed run goes on with its record.

    Args:
        path: of the file: a list with a dict for each epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._began = time.monotonic()
        self._lr = 0.0
        self._is_validated = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.monotonic()
        self._is_validated = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # At the end of the epoch it may be the next one's; a start in mid-epoch has no start of the epoch.
        self._lr = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("train/", "search/"))
            # Lightning keeps the last ones where an epoch has none of its own.
            or (name.startswith("val/") and self._is_validated)
        }
        seconds = round(time.monotonic() - self._began, 3)
        self.rows.append({"epoch": trainer.current_epoch, "lr": self._lr, "seconds": seconds, **metrics})
        if trainer.is_global_zero:
            write_json(self.path, self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class LastCheckpoint(ModelCheckpoint):
    """Keeps `last.ckpt`, of each epoch's end or of every so many steps.

    Args:
        folder: where it lies.
        every_steps: None: at the end of each epoch.
    """

    def __init__(self, folder: Path, every_steps: int | None = None) -> None:
        super().__init__(
            dirpath=folder,
            filename="last",
            every_n_train_steps=every_steps,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(value, indent=1) + "\n")
    draft.replace(path)


def add_options(parser: ArgumentParser, run: str, defaults: Mapping[str, Any]) -> None:
    """The options that every script has.

    Args:
        parser: gets them.
        run: where the results go unless `--run` says so.
        defaults: the paper's settings, by option.
    """
    parser.add_argument("--config", action="config", help="a YAML file of options")
    parser.add_argument("--run", type=str, default=run, help="folder of the results")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and alphas")
    parser.add_argument(
        "--ckpt", type=str, default="last", help="go on from the run's last checkpoint, a file, or 'none'"
    )
    parser.add_argument(
        "--checkpoint_steps", type=int | None, default=None, help="save every so many steps, too"
    )
    parser.add_argument(
        "--compile", type=str | None, default=None, help="backend of torch.compile for each cell"
    )
    parser.add_argument("--channels_last", type=bool, default=False, help="memory format")
    parser.add_class_arguments(Cifar10, "data", skip={"seed", "channels_last"}, instantiate=False)
    parser.add_class_arguments(
        Classifier,
        "training",
        skip={"net", "channels_last", "compile", "drop_path"},
        instantiate=False,
    )
    parser.add_class_arguments(Trainer, "trainer", skip={"callbacks"}, instantiate=False)
    # One folder holds everything, and it is ours.
    parser.set_defaults({"trainer.logger": False, "trainer.gradient_clip_val": 5.0, **defaults})


def checkpoint_of(options: Any, folder: Path) -> str | None:
    """Where to go on from; None for a fresh start.

    Raises:
        FileNotFoundError: if a named checkpoint does not exist.
    """
    if options.ckpt == "none":
        return None
    if options.ckpt == "last":
        last = folder / "checkpoints" / "last.ckpt"
        return str(last) if last.exists() else None
    if not Path(options.ckpt).is_file():
        raise FileNotFoundError(f"There is no checkpoint {options.ckpt}.")
    return str(options.ckpt)


def trainer_of(options: Any, folder: Path, callbacks: list[Callback]) -> Trainer:
    """The trainer that the options ask for, with checkpoints and curves in `folder`."""
    checkpoints = [LastCheckpoint(folder / "checkpoints")]
    if options.checkpoint_steps is not None:
        checkpoints.append(LastCheckpoint(folder / "checkpoints", options.checkpoint_steps))
    # Checkpoints come last, so that they hold what the others have noted about the same epoch.
    every = [*callbacks, Curves(folder / "curves.json"), *checkpoints]
    settings = options.trainer.as_dict()
    if not options.data.held_out:
        settings["limit_val_batches"] = 0
    return Trainer(**settings, callbacks=every)
