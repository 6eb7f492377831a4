"""The Lightning callback that every one-shot method is."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from lightning_nas.errors import SearchError
from lightning_nas.evaluators.random_states import gathered, random_states, set_random_states
from lightning_nas.mutables import Choice
from lightning_nas.oneshot.gap import Gap
from lightning_nas.oneshot.halves import Stream, halves, whole
from lightning_nas.oneshot.health import Health, Watch, health_of
from lightning_nas.oneshot.scoring import on_device
from lightning_nas.oneshot.step import Reduce, Step, TrainingLoss, loss_scale, reducer, without_logs
from lightning_nas.oneshot.supernet import Supernet, relax
from lightning_nas.oneshot.training_data import intercept_training_data
from lightning_nas.report import output_directory
from lightning_nas.search_history import FILE as SEARCH_FILE
from lightning_nas.search_history import Candidates, append_epoch, write_search
from lightning_nas.trial import Metrics, Report, Sample

_log = logging.getLogger(__name__)


class OneShot(Callback, ABC):
    """Searches the choices of a LightningModule while it trains: `Trainer(callbacks=[...]).fit(module)`.

    In `setup`, before the optimizers exist, every choice in the module becomes a mixed operation. Each
    training batch first gives the method a batch of the search half; then Lightning does its own weight
    step, with the user's `training_step`, optimizers, schedulers, clipping, precision and loggers. Alphas
    belong to the callback: no optimizer, weight decay, clipping or DDP of the module sees them.

    A checkpoint of Lightning's holds all of it, and a resumed search equals one that was never stopped;
    in mid-epoch, random augmentation in loader workers alone starts anew.

    Args:
        learning_rate, betas, weight_decay: of the Adam that updates the alphas.
        search_data: the data for the alphas: a loader, or a function without arguments that makes one. None:
            the training data are split, and the weights see `1 - search_share` of them.
        search_share: of the training examples, in (0, 1), for the alphas.
        warmup_epochs: how many epochs train the weights alone at first.
        seed: decides the split, the order of both halves and the first alphas.
        gap_monitor: a metric of `validation_step`, in which the derived network is compared with the mixture
            after validation, at the price of running it once more (see `Gap`); None does not.
        gap_every: epochs from one comparison to the next.
        guard: warn when the search collapses onto operations without weights (see `Health`).
        stop_at_parameter_free: end the search when so large a share, in (0, 1], of the derived
            operations has no weights; None never does.
        fast: let the edges of a cell share their work where its candidates are the hub's; see `relax`.
        history_file: where rank 0 writes `history` down, a line at the end of each epoch, for reports, pages and
            `read_search`. None: `search.jsonl` in the folder of the trial it searches in; outside a trial, nowhere.

    Attributes:
        history: one dict per epoch: epoch, step, the weights of each label as nested lists, and health.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 3e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        search_data: Any = None,
        search_share: float = 0.5,
        warmup_epochs: int = 0,
        seed: int = 0,
        gap_monitor: str | None = None,
        gap_every: int = 1,
        guard: bool = True,
        stop_at_parameter_free: float | None = None,
        fast: bool = True,
        history_file: str | Path | None = None,
    ) -> None:
        if learning_rate < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                "`learning_rate >= 0`, `weight_decay >= 0` and `0 <= beta < 1` must hold, but got "
                f"({learning_rate=}, {weight_decay=}, {betas=})."
            )
        if not 0 < search_share < 1:
            raise ValueError(f"`0 < search_share < 1` must hold, but got {search_share=}.")
        if warmup_epochs < 0 or seed < 0:
            raise ValueError(
                f"`warmup_epochs` and `seed` must be at least 0, but got ({warmup_epochs=}, {seed=})."
            )
        if stop_at_parameter_free is not None and not 0 < stop_at_parameter_free <= 1:
            raise ValueError(
                f"`0 < stop_at_parameter_free <= 1` must hold, but got {stop_at_parameter_free=}."
            )
        if gap_every < 1:
            raise ValueError(f"`gap_every` must be at least 1, but got {gap_every=}.")
        self.learning_rate = learning_rate
        self.betas = betas
        self.weight_decay = weight_decay
        self.search_data = search_data
        self.search_share = search_share
        self.warmup_epochs = warmup_epochs
        self.seed = seed
        self.fast = fast
        self.history_file = history_file
        self.watch = Watch(guard, stop_at_parameter_free)
        self.gap_monitor = gap_monitor
        self.gap_every = gap_every
        self._gap = Gap(gap_monitor, gap_every)
        self.supernet: Supernet | None = None
        self.alphas: dict[str, Tensor] = {}
        self.history: list[dict[str, Any]] = []
        self._optimizer: torch.optim.Optimizer | None = None
        self._stream = Stream(self._make_search_loader)
        self._search_half: Any = None
        self._loaded: dict[str, Any] | None = None
        self._reduce: Reduce = list
        self._place = (0, 1)
        self._first_bad: Tensor | None = None
        self._undo: Callable[[], None] | None = None
        self._group = 1
        self._is_written = False

    # -- what a method decides -------------------------------------------------------------------

    @abstractmethod
    def search_gradients(
        self, loss_of: Callable[[Any], Tensor], search_batch: Any, step: Step
    ) -> list[Tensor]:
        """The gradients of the alphas, in their order.

        Args:
            loss_of: the module's training loss on a batch.
            search_batch: a batch of the search half.
            step: what else a method may need of this training step.
        """

    def first_alphas(self, supernet: Supernet, generator: torch.Generator) -> dict[str, Tensor]:
        """The alphas at the start: normal draws times 1e-3, as the paper's code has them."""
        return {
            label: 1e-3 * torch.randn(shape, generator=generator)
            for label, shape in sorted(supernet.shapes.items())
        }

    def activate(self) -> dict[str, Tensor]:
        """The weights of the candidates by label, as they follow from the alphas, with gradients."""
        return self._supernet().activate(self.alphas)

    def set_weights_for_training(self) -> None:
        """Hands the supernet what the next weight step is to use: the mixture, without gradients."""
        with torch.no_grad():
            self._supernet().receive(self.activate())

    def set_weights_for_validation(self) -> None:
        """Hands the supernet what validation is to use."""
        self.set_weights_for_training()

    # -- results ---------------------------------------------------------------------------------

    def sample(self) -> Sample:
        """The sample that the alphas speak for now.

        Raises:
            SearchError: before a search has begun.
        """
        return self._supernet().derive(self.weights())

    def weights(self) -> dict[str, Tensor]:
        """The weights of the candidates by label, on the CPU; see `Supernet.names` for rows and columns."""
        with torch.no_grad():
            weights = self.activate()
        return {label: weight.detach().cpu() for label, weight in weights.items()}

    def health(self) -> Health:
        """How the search stands: entropy, share of derived operations without weights, and the gap."""
        health = health_of(self._supernet(), self.weights(), self.sample())
        return dataclasses.replace(health, derived_score=self._gap.derived, gap=self._gap.gap)

    def record(self, epoch: int, step: int) -> Health:
        """Adds how the search stands to `history`. `fit` does it at the end of each epoch.

        Args:
            epoch: its number, from 0.
            step: how many steps on the weights were taken.
        """
        health = self.health()
        weights = {label: weight.tolist() for label, weight in self.weights().items()}
        row = {"epoch": epoch, "step": step, "weights": weights, "sample": self.sample()}
        self.history.append({**row, **health.as_metrics()})
        self._write_history()
        return health

    def search(self, net: nn.Module, evaluator: Any, report: Report) -> Sample:
        """Searches a model space with an evaluator that can `fit`, and derives. Changes `net`.

        Within a trial, the last checkpoint is kept in the trial's folder, from which a broken-off search goes on.
        """
        callbacks: list[Callback] = [self]
        directory = output_directory()
        if directory is not None:
            callbacks.append(ModelCheckpoint(directory, save_last=True, save_top_k=0))
        evaluator.fit(net, report, callbacks)
        return self.sample()

    def __repr__(self) -> str:
        state = ("supernet", "alphas", "history", "history_file", "watch")
        settings = {n: v for n, v in vars(self).items() if not n.startswith("_") and n not in state}
        given = (f"{name}={value!r}" for name, value in sorted(settings.items()) if value is not None)
        return f"{type(self).__name__}({', '.join(given)})"

    def _write_history(self) -> None:
        """Adds the last epoch to the history's file; writes the whole of it where this fit has not yet.

        So a resumed search replaces what was written behind its checkpoint, and a line that was torn.
        """
        directory = output_directory()
        path = self.history_file or (directory and directory / SEARCH_FILE)
        if path is None or not self.alphas or self._place[0] != 0:
            return
        if self._is_written:
            append_epoch(Path(path), self.history[-1])
            return
        candidates = {label: Candidates(*names) for label, names in self._supernet().names.items()}
        write_search(Path(path), candidates, self.history)
        self._is_written = True

    def _supernet(self) -> Supernet:
        if self.supernet is None:
            raise SearchError(
                f"{type(self).__name__} has not searched yet; give it to a Trainer and call fit."
            )
        return self.supernet

    # -- Lightning's hooks, in the order of their calls --------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        # The optimizers come right after it and no hook lies between; it may be called twice.
        pl_module.configure_model()
        if self.supernet is None or self.supernet.root is not pl_module:
            self.supernet = relax(pl_module, self.fast)
            generator = torch.Generator().manual_seed(self.seed)
            self.alphas = self.first_alphas(self.supernet, generator)
            self.history = []
            self._optimizer = None
        if not pl_module.automatic_optimization and not hasattr(pl_module, "search_step"):
            raise SearchError(
                f"{type(pl_module).__name__} optimizes manually, so that its training_step cannot give the loss of a "
                "search batch; add a method search_step(batch, batch_idx) that returns it."
            )
        self._place = (trainer.global_rank, trainer.world_size)
        if self.search_data is None:
            self._undo = intercept_training_data(trainer, self._split)
        else:
            self._undo = intercept_training_data(trainer, self._resumable)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            self._check_space(loaded)
            self.alphas = dict(loaded["alphas"])
            self.history = list(loaded["history"])
            self._stream.load_state_dict(loaded["stream"])
        dtype = (
            torch.float64 if any(p.dtype == torch.float64 for p in pl_module.parameters()) else torch.float32
        )
        self.alphas = {
            label: alpha.detach().to(pl_module.device, dtype).requires_grad_()
            for label, alpha in self.alphas.items()
        }
        for alpha in self.alphas.values():
            alpha.data = trainer.strategy.broadcast(alpha.data)
        state = loaded["optimizer"] if loaded is not None else None
        if state is None and self._optimizer is not None:
            state = self._optimizer.state_dict()
        self._optimizer = None
        if self.alphas:
            self._optimizer = torch.optim.Adam(
                list(self.alphas.values()),
                lr=self.learning_rate,
                betas=self.betas,
                weight_decay=self.weight_decay,
            )
            if state is not None:
                self._optimizer.load_state_dict(state)
        self._reduce = reducer(trainer)
        self._first_bad = None
        self._check_optimizers(trainer, pl_module)
        self.set_weights_for_training()
        self._is_written = False
        self._write_history()
        if loaded is not None:
            # Lightning saves no random state, and every later hook is too late.
            states = loaded["random"]
            set_random_states(states[min(trainer.global_rank, len(states) - 1)])

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        searches = self._optimizer is not None and trainer.current_epoch >= self.warmup_epochs
        group = trainer.accumulate_grad_batches
        if searches and batch_idx % group == 0:
            left = trainer.num_training_batches - batch_idx
            self._search(trainer, pl_module, batch, batch_idx, int(min(group, left)))
        if batch_idx % group == 0:
            self.set_weights_for_training()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, Mapping) and "loss" in outputs else outputs
        if isinstance(loss, Tensor):
            self._note(loss, trainer.global_step)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if self.supernet is not None:
            self._raise_if_bad()
            self.set_weights_for_validation()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self.supernet is not None:
            if self.gap_monitor is not None:
                self._gap.look(self.supernet, self.sample(), trainer, pl_module)
            self.set_weights_for_training()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._raise_if_bad()
        health = self.record(trainer.current_epoch, trainer.global_step)
        # The same on all ranks: Lightning need not reduce hundreds of numbers.
        tables = {**self._as_metrics("alpha", self.alphas), **self._as_metrics("weight", self.weights())}
        pl_module.log_dict(tables, rank_zero_only=True)
        pl_module.log_dict(health.as_metrics(), sync_dist=True)
        self.watch.look(health, trainer)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._raise_if_bad()  # the last good checkpoint stays

    def state_dict(self) -> dict[str, Any]:
        if self.supernet is None:
            return {}
        return {
            "alphas": {label: alpha.detach().cpu().clone() for label, alpha in self.alphas.items()},
            "optimizer": None if self._optimizer is None else copy.deepcopy(self._optimizer.state_dict()),
            "stream": self._stream.state_dict(),
            "history": list(self.history),
            "random": gathered(random_states()),
            "space": self._space(),
        }

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None
        if stage == "fit" and self.supernet is not None:
            self.alphas = {
                label: alpha.detach().cpu().requires_grad_() for label, alpha in self.alphas.items()
            }
            self._stream = Stream(self._make_search_loader)
            self._search_half = None
            self.set_weights_for_training()

    # -- one step on the alphas --------------------------------------------------------------------

    def _search(self, trainer: Any, module: Any, batch: Any, batch_idx: int, group: int) -> None:
        """Takes one step on the alphas, with as many search batches as the weight step has batches."""
        scale = loss_scale(trainer)
        total: list[Tensor] | None = None
        for _ in range(group):
            with without_logs(module):
                loss_of = TrainingLoss(trainer, module, batch_idx, scale)
                step = Step(batch, trainer, module, self._reduce)
                gradients = self.search_gradients(loss_of, on_device(trainer, next(self._stream)), step)
            self._note(loss_of.last, trainer.global_step)
            total = gradients if total is None else [a + b for a, b in zip(total, gradients)]
        gradients = [gradient / (group * scale) for gradient in self._reduce(total or [])]
        if scale != 1 and not all(bool(g.isfinite().all()) for g in gradients):
            return  # half precision overflowed: GradScaler skips the weights' step likewise
        optimizer = cast(torch.optim.Optimizer, self._optimizer)
        for alpha, gradient in zip(self.alphas.values(), gradients):
            alpha.grad = gradient.to(alpha.dtype)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _note(self, loss: Tensor, step: int) -> None:
        """Remembers the first step with a loss that is not finite: on the device, without waiting for it."""
        loss = loss.detach()
        # Numbers as arguments of `torch.where` would be copied to the device, and the host would wait.
        bad = torch.full((), float(step), device=loss.device).masked_fill_(loss.isfinite().all(), torch.inf)
        self._first_bad = bad if self._first_bad is None else torch.minimum(self._first_bad, bad)
        if loss.device.type == "cpu":
            self._raise_if_bad()

    def _raise_if_bad(self) -> None:
        """Raises SearchError if a loss was not finite; this waits for the device."""
        if self._first_bad is None or bool(self._first_bad.isinf()):
            return
        wrong = sorted(label for label, alpha in self.alphas.items() if not bool(alpha.isfinite().all()))
        labels = f", and the alphas of {', '.join(map(repr, wrong))} are not either" if wrong else ""
        raise SearchError(
            f"The loss was not finite at step {int(self._first_bad)}{labels}; the search stops and the last checkpoint "
            "before stays. Try a smaller learning rate, clipping, or another precision."
        )

    # -- data --------------------------------------------------------------------------------------

    def _split(self, loader: Any) -> Any:
        """The half for the weights; keeps the other."""
        train, self._search_half = halves(loader, 1 - self.search_share, self.seed, *self._place)
        return train

    def _resumable(self, loader: Any) -> Any:
        """The training loader as it is, or one over the same data that can go on in mid-epoch."""
        return whole(loader, self.seed, *self._place)

    def _make_search_loader(self) -> Iterable[Any]:
        if self.search_data is None:
            return cast("Iterable[Any]", self._search_half)
        loader = self.search_data() if callable(self.search_data) else self.search_data
        return cast("Iterable[Any]", whole(loader, self.seed + 1, *self._place))

    # -- checks ------------------------------------------------------------------------------------

    def _check_optimizers(self, trainer: Any, module: Any) -> None:
        late = next(((path, m) for path, m in module.named_modules() if isinstance(m, Choice)), None)
        if late is not None:
            raise SearchError(
                f"The choice `{late[0]}` ({late[1].site}) was made after the search began; make it in the module's "
                "constructor or in configure_model."
            )
        known = {
            id(p)
            for optimizer in trainer.optimizers
            for group in optimizer.param_groups
            for p in group["params"]
        }
        missing = next(
            (p for p in self._supernet().parameters() if p.requires_grad and id(p) not in known), None
        )
        if missing is not None:
            name = next(
                (name for name, p in module.named_parameters() if p is missing), "a candidate's weight"
            )
            raise SearchError(
                f"No optimizer holds `{name}`, a weight of the supernet; take the parameters in configure_optimizers "
                "(self.parameters()), not before the search began."
            )

    def _space(self) -> str:
        """The labels and candidates, to tell checkpoints of other spaces apart."""
        return json.dumps(sorted((label, names) for label, names in self._supernet().names.items()))

    def _check_space(self, loaded: Mapping[str, Any]) -> None:
        if loaded["space"] == self._space():
            return
        theirs = {label for label, _ in json.loads(loaded["space"])}
        ours = set(self._supernet().names)
        which = ", ".join(map(repr, sorted(theirs ^ ours)[:3])) or "their candidates"
        raise SearchError(f"The checkpoint is of another space: it differs in {which}.")

    def _as_metrics(self, kind: str, tables: Mapping[str, Tensor]) -> Metrics:
        """`{kind}/{label}/{row}/{candidate}`, without the row where there is one."""
        metrics: Metrics = {}
        for label, (rows, names) in self._supernet().names.items():
            table = tables[label].detach().reshape(len(rows), len(names)).tolist()
            for row, values in zip(rows, table):
                for name, value in zip(names, values):
                    metrics["/".join(part for part in (kind, label, row, name) if part)] = value
        return metrics
