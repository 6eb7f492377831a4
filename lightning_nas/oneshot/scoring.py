"""Scores a supernet by the user's own validation, during a search and after it."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from lightning_nas.errors import SearchError
from lightning_nas.evaluators.callback import logged_metrics
from lightning_nas.evaluators.quiet import quiet
from lightning_nas.evaluators.roots import common_root
from lightning_nas.trial import Metrics

_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@contextlib.contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Puts back the buffers and the modes of a module afterwards, but not its parameters."""
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
        for part, mode in modes:
            part.training = mode


def recalibrate(module: Any, batches: Iterable[Any]) -> None:
    """Estimates the statistics of batch-norms anew, as means over batches. Changes `module`, which is left in eval.

    The statistics that a supernet gathers are those of its mixture, or of all its paths; those of one path
    differ.

    Args:
        module: a LightningModule; its `validation_step` runs, and what that logs or adds to a torchmetrics
            object is dropped.
        batches: on the module's device.

    Source: Guo et al., "Single Path One-Shot", ECCV 2020 (arXiv:1904.00420), section 3.4.
    """
    module.eval()
    norms = [
        part
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over all batches
        norm.train()
    step = _validation_step(module)
    with torch.no_grad(), _own_metrics(module), _recording(module, _Record("")):
        for index, batch in enumerate(batches):
            step(batch, index)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    module.eval()


def validation_score(module: Any, batches: Iterable[Any], monitor: str) -> Tensor:
    """What `validation_step` logs as `monitor`, over batches: the weighted sum and the weight, shape (2,).

    Numbers are weighted by the size of their batch, as Lightning weighs them; a torchmetrics object counts
    once. Metric objects and buffers stay as they are.

    Args:
        module: a LightningModule in eval mode.
        batches: on the module's device.
        monitor: the name.

    Raises:
        SearchError: if `validation_step` does not log it.
    """
    record = _Record(monitor)
    with torch.no_grad(), untouched(module), _own_metrics(module), _recording(module, record):
        step = _validation_step(module)
        for index, batch in enumerate(batches):
            record.batch_size = _size(batch)
            step(batch, index)
        return record.result(module.device)


class Runs:
    """Validates and trains a LightningModule with Trainers that say nothing.

    Args:
        trainer: further arguments of the Trainer, such as the accelerator.
    """

    def __init__(self, trainer: Mapping[str, Any]) -> None:
        self._arguments = dict(trainer)

    def validate(self, module: Any, loaders: Any, prepare: Callable[[Any], None]) -> Metrics:
        """What the module logs in a validation run; its buffers stay as they are.

        Args:
            module: a LightningModule.
            loaders: as for `Trainer.validate`.
            prepare: called with the Trainer before, when the module is on its device.
        """
        with quiet(), untouched(module):
            trainer = self._trainer(module, prepare)
            trainer.validate(module, dataloaders=loaders, verbose=False)
            return logged_metrics(trainer)

    def train(self, module: Any, loaders: Any, steps: int, prepare: Callable[[Any], None]) -> None:
        """Takes some steps with the module's own optimizers. Changes `module`."""
        with quiet():
            trainer = self._trainer(module, prepare, max_steps=steps, max_epochs=-1, limit_val_batches=0)
            trainer.fit(module, loaders, val_dataloaders=[])

    def _trainer(self, module: Any, prepare: Callable[[Any], None], **options: Any) -> Any:
        own = self._arguments.get("callbacks") or []
        arguments = {**_QUIET, **options, **self._arguments}
        return common_root([module]).Trainer(**{**arguments, "callbacks": [_Prepare(prepare), *own]})


class _Prepare(Callback):
    """Calls a function with the Trainer when a run begins."""

    def __init__(self, prepare: Callable[[Any], None]) -> None:
        self._prepare = prepare

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._prepare(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._prepare(trainer)


def on_device(trainer: Any, batch: Any) -> Any:
    """A batch as Lightning hands it to a step."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def first_batches(trainer: Any, loader: Any, n: int | None) -> Iterator[Any]:
    """The first n batches of a loader (None: all), on the Trainer's device."""
    return (on_device(trainer, batch) for batch in itertools.islice(loader, n))


class _Record:
    """Takes the place of a module's `log` and keeps one name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: list[tuple[Tensor, int]] = []
        self._metric: Any = None
        self.batch_size = 1

    def log(self, name: str, value: Any, *args: Any, batch_size: int | None = None, **kwargs: Any) -> None:
        if name != self._name:
            return
        if hasattr(value, "compute"):
            self._metric = value
        else:
            value = torch.as_tensor(value).detach().float().mean()
            self._values.append((value, self.batch_size if batch_size is None else batch_size))

    def log_dict(self, values: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        for name, value in values.items():
            self.log(name, value, **kwargs)

    def result(self, device: Any) -> Tensor:
        if self._metric is not None:
            return torch.tensor([float(self._metric.compute()), 1.0], device=device)
        if not self._values:
            raise SearchError(
                f"validation_step does not log {self._name!r}, by which the derived network is to be scored; log it "
                "there, not at the epoch's end."
            )
        values = torch.stack([value.to(device) for value, _ in self._values])
        sizes = torch.tensor([float(size) for _, size in self._values], device=device)
        return torch.stack([(values * sizes).sum(), sizes.sum()])


@contextlib.contextmanager
def _recording(module: Any, record: _Record) -> Iterator[None]:
    """Inside, what the module logs goes to `record` alone."""
    names = ("log", "log_dict")
    for name in names:
        vars(module)[name] = getattr(record, name)
    try:
        yield
    finally:
        for name in names:
            vars(module).pop(name, None)


@contextlib.contextmanager
def _own_metrics(module: nn.Module) -> Iterator[None]:
    """Inside, fresh copies stand in the places of the module's torchmetrics."""
    from torchmetrics import Metric, MetricCollection

    copies: dict[int, Any] = {}
    places = []
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, (Metric, MetricCollection)):
                places.append((parent, name, child))
                if id(child) not in copies:
                    copies[id(child)] = copy.deepcopy(child)
                    copies[id(child)].reset()
    for parent, name, child in places:
        parent._modules[name] = copies[id(child)]
    try:
        yield
    finally:
        for parent, name, child in places:
            parent._modules[name] = child


def _validation_step(module: Any) -> Callable[[Any, int], Any]:
    """The module's `validation_step`, whether it asks for the index or not."""
    step = module.validation_step
    wants_index = len(inspect.signature(step).parameters) > 1
    return (lambda batch, index: step(batch, index)) if wants_index else (lambda batch, index: step(batch))


def _size(batch: Any) -> int:
    """The length of the first tensor in a batch; 1 if there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts: Iterable[Any] = batch.values() if isinstance(batch, Mapping) else ()
    if isinstance(batch, (list, tuple)):
        parts = batch
    return next((_size(part) for part in parts if isinstance(part, (Tensor, Mapping, list, tuple))), 1)
