"""First-order DARTS in a loop of its own: the loss and gradients of each batch are one CUDA graph.

`search.py --graphed` runs this in the place of Lightning's loop. Supernet, alphas, data, optimizers and the
order of the steps are the callback's, so that on a CPU, where nothing is captured, alphas and weights are the same
bit by bit. The host never waits for the device within an epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from data import Batches, Cifar10
from lit import Classifier, write_json
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_nas.errors import SearchError
from lightning_nas.oneshot import Darts, OneShot, PCDarts, Supernet, frozen, relax

WARM_UP = 3
PRECISIONS = {
    **dict.fromkeys((None, 32, "32", "32-true"), None),
    **dict.fromkeys(("bf16", "bf16-mixed"), torch.bfloat16),
}
OBEYED = {
    "accelerator", "devices", "precision", "max_epochs", "gradient_clip_val", "check_val_every_n_epoch", "benchmark",
}  # fmt: skip
MEANINGLESS = {"enable_progress_bar", "enable_model_summary"}


class GraphedStep:
    """A loss and its gradients: on a GPU one CUDA graph, launched as a whole; elsewhere a plain call.

    Each call writes over the `.grad` of the parameters, which are the same tensors throughout: clip them in place, but
    do not set them to None, as `zero_grad` does.

    Args:
        loss_of: the loss of a batch. It is captured once, after three calls to warm up: later calls repeat what it
            did on the device, with tensors at the same places, and no Python.
        parameters: what to differentiate by. The loss depends on each.
        example: a batch; all others have its shapes, types and device.
        changed: tensors that `loss_of` changes in place, such as running statistics; capturing leaves them as they
            were. Random numbers must play no part.
        captures: False makes plain calls on a GPU, too.
        beside: a step that never runs at the same time as this one; both then share their memory.

    Source: "CUDA Graphs" in the notes of PyTorch on CUDA semantics.
    """

    def __init__(
        self,
        loss_of: Callable[..., Tensor],
        parameters: Sequence[Tensor],
        example: Sequence[Tensor],
        *,
        changed: Sequence[Tensor] = (),
        captures: bool = True,
        beside: GraphedStep | None = None,
    ) -> None:
        self._loss_of = loss_of
        self._parameters = list(parameters)
        for parameter in self._parameters:
            parameter.grad = torch.zeros_like(parameter)
        # Nothing that outlives a call lies in the memory of the graph, so that two graphs can share it.
        self._gradients = [parameter.grad for parameter in self._parameters]
        self._batch = [each.clone() for each in example]
        self._loss = torch.zeros((), device=example[0].device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if captures and example[0].is_cuda:
            self._capture(changed, beside)

    def __call__(self, *batch: Tensor) -> Tensor:
        """The loss, in a tensor that the next call writes over."""
        if self._graph is None:
            self._compute(batch)
        else:
            for place, given in zip(self._batch, batch, strict=True):
                place.copy_(given)
            self._graph.replay()
        return self._loss

    def _compute(self, batch: Sequence[Tensor]) -> None:
        loss = self._loss_of(*batch)
        # Unlike `backward`, this passes by the nodes that add to `.grad`, which stay on the stream they were made on.
        gradients = torch.autograd.grad(loss, self._parameters)
        with torch.no_grad():
            torch._foreach_copy_(self._gradients, gradients)
            self._loss.copy_(loss)

    def _capture(self, changed: Sequence[Tensor], beside: GraphedStep | None) -> None:
        before = [each.clone() for each in changed]
        shares = beside is not None and beside._graph is not None
        self._stream = beside._stream if shares else torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):  # libraries make their handles, the compiler its code
                self._compute(self._batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=beside._graph.pool() if shares else None, stream=self._stream):
            self._compute(self._batch)
        self._graph = graph
        for tensor, value in zip(changed, before):
            tensor.copy_(value)


class Search:
    """The two steps of a first-order search: one on the alphas, then one on the weights.

    Args:
        supernet: in training mode on its device.
        alphas: the leaves that `activate` starts from.
        activate: from the alphas to the weights of the candidates, by label.
        optimizer, arch_optimizer: of the weights and of the alphas.
        example: a batch, (b, 3, h, w) and (b,).
        clip: the largest norm of the weights' gradients.
        dtype: of the autocast; None for none.
        captures: whether CUDA graphs are used on a GPU.

    Attributes:
        sums: of the training loss and of the accuracy over all steps, on the device; set it to zero in place.
    """

    def __init__(
        self,
        supernet: Supernet,
        alphas: Sequence[Tensor],
        activate: Callable[[], dict[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        arch_optimizer: torch.optim.Optimizer,
        example: Sequence[Tensor],
        *,
        clip: float | None = 5.0,
        dtype: torch.dtype | None = None,
        captures: bool = True,
    ) -> None:
        self.supernet = supernet
        self.net = supernet.root
        self.activate = activate
        self.optimizer, self.arch_optimizer = optimizer, arch_optimizer
        self.clip, self.dtype = clip, dtype
        self.weights = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self.sums = torch.zeros(2, device=example[0].device)
        changed = [*self.net.buffers(), self.sums]
        with (
            torch.no_grad()
        ):  # weights that know the alphas would keep autograd on the stream they were made on
            supernet.receive(activate())
        self._on_alphas = GraphedStep(self._search_loss, alphas, example, changed=changed, captures=captures)
        self._on_weights = GraphedStep(
            self._training_loss, self.weights, example, changed=changed, captures=captures,
            beside=self._on_alphas,
        )  # fmt: skip

    def step(self, train: Sequence[Tensor], search: Sequence[Tensor] | None) -> Tensor:
        """Takes a batch `(images, labels)` of each half, None to leave the alphas; the training loss."""
        if search is not None:
            self.take_alpha_gradients(search)
            self.arch_optimizer.step()
        loss = self._on_weights(*train)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimizer.step()
        return loss

    def take_alpha_gradients(self, search: Sequence[Tensor]) -> None:
        """Writes those of the loss on a batch into the `.grad` of the alphas."""
        self._on_alphas(*search)

    def _search_loss(self, x: Tensor, y: Tensor) -> Tensor:
        self.supernet.receive(self.activate())
        with frozen(self.weights), autocast(x.device, self.dtype):
            return cross_entropy(self.net(x), y)

    def _training_loss(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            self.supernet.receive(self.activate())
        with autocast(x.device, self.dtype):
            logits = self.net(x)
            loss = cross_entropy(logits, y)
        with torch.no_grad():
            self.sums += torch.stack([loss, (logits.argmax(1) == y).float().mean()])
        return loss


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    # A weight cast once and kept would be a tensor of the graph's that is gone when the graph runs.
    return torch.autocast(
        device.type, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False
    )


@torch.no_grad()
def evaluate(net: nn.Module, batches: Batches, dtype: torch.dtype | None) -> dict[str, float]:
    """Mean loss and accuracy, in evaluation mode. Leaves the network in it."""
    net.eval()
    sums, n = torch.zeros(2, device=batches.pool.pixels.device), 0
    for x, y in batches:
        with autocast(x.device, dtype):
            logits = net(x)
            loss = cross_entropy(logits, y)
        sums += torch.stack([loss * len(y), (logits.argmax(1) == y).float().sum()])
        n += len(y)
    loss_mean, accuracy = (sums / n).tolist()
    return {"val/loss": loss_mean, "val/accuracy": accuracy}


def endless(batches: Batches, taken: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch, after the first `taken` batches."""
    epoch, seen = divmod(taken, len(batches))
    batches.load_state_dict({"epoch": epoch, "seen": seen})
    while True:
        yield from batches
        epoch += 1
        batches.sampler.set_epoch(epoch)


def check(options: Any, defaults: Any, method: OneShot) -> None:
    """Refuses what the loop does not do.

    Raises:
        ValueError: that names it.
    """
    if not isinstance(method, (Darts, PCDarts)) or getattr(method, "order", 1) != 1:
        raise ValueError(f"--graphed searches with Darts of order 1 or PCDarts, but got {method}.")
    if method.gap_monitor is not None:
        raise ValueError("--graphed does not measure the gap; leave out --method.gap_monitor.")
    trainer = options.trainer
    known = OBEYED | MEANINGLESS
    unknown = [name for name, value in trainer.items() if value != defaults[name] and name not in known]
    if unknown:
        raise ValueError(f"--graphed has no Trainer and cannot obey --trainer.{unknown[0]}.")
    if trainer.precision not in PRECISIONS:
        raise ValueError(
            f"--graphed knows the precisions 32-true and bf16-mixed, but got {trainer.precision!r}."
        )
    if trainer.devices not in ("auto", 1, "1"):
        raise ValueError(f"--graphed runs on one device, but got --trainer.devices {trainer.devices}.")
    if trainer.accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"--graphed runs on a GPU of NVIDIA's or a CPU, not on {trainer.accelerator!r}.")
    if trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"torch finds no CUDA device for --trainer.accelerator {trainer.accelerator}.")
    if (trainer.max_epochs or 0) < 1:
        raise ValueError(f"--graphed needs --trainer.max_epochs of 1 or more, but got {trainer.max_epochs}.")
    if options.ckpt not in ("last", "none"):
        raise ValueError(f"--graphed goes on from its own checkpoint, not from {options.ckpt}.")
    if options.checkpoint_steps is not None:
        raise ValueError("--graphed saves at the end of each epoch; leave out --checkpoint_steps.")


def search(options: Any, data: Cifar10, module: Classifier, method: OneShot, run: Path, write: Any) -> None:
    """Searches as `Trainer.fit` would, and goes on where an interrupted one was.

    Args:
        options: of `search.py`, checked.
        data: the images; they go to the device.
        module: holds the network, which is relaxed.
        method: gets supernet, alphas and history.
        run: the folder of the results.
        write: is called after each epoch.

    Raises:
        SearchError: at the end of an epoch in which a loss was not finite.
    """
    trainer, training = options.trainer, options.training
    uses_gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = data.device = (
        torch.device("cuda", torch.cuda.current_device()) if uses_gpu else torch.device("cpu")
    )
    dtype = PRECISIONS[trainer.precision]
    if uses_gpu:  # all batches have one shape
        torch.backends.cudnn.benchmark = trainer.benchmark is not False
    method.supernet = supernet = relax(module, method.fast)
    first = method.first_alphas(supernet, torch.Generator().manual_seed(options.seed))
    method.alphas = {label: alpha.to(device).requires_grad_() for label, alpha in first.items()}
    module.to(device).train()
    module.on_fit_start()  # memory format and compiler
    alphas = list(method.alphas.values())
    arch_optimizer = torch.optim.Adam(
        alphas, method.learning_rate, method.betas, weight_decay=method.weight_decay, fused=uses_gpu
    )
    optimizer = torch.optim.SGD(
        module.parameters(),
        training.lr,
        training.momentum,
        weight_decay=training.weight_decay,
        fused=uses_gpu,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, trainer.max_epochs, training.lr_min)
    parts = {"net": module, "optimizer": optimizer, "arch_optimizer": arch_optimizer, "schedule": schedule}
    file = run / "checkpoints" / "graphed.pt"
    rows: list[dict[str, float]] = []
    if options.ckpt != "none" and file.exists():
        state = torch.load(file, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        with torch.no_grad():
            for label, alpha in method.alphas.items():
                alpha.copy_(state["alphas"][label])
        rows, method.history = state["rows"], state["history"]

    train = data.train_dataloader()
    steps = Search(
        supernet, alphas, method.activate, optimizer, arch_optimizer, next(iter(train)),
        clip=trainer.gradient_clip_val, dtype=dtype,
    )  # fmt: skip
    done = len(rows)
    searching = endless(data.search_dataloader(), len(train) * max(done - method.warmup_epochs, 0))
    for epoch in range(done, trainer.max_epochs):
        began, lr = time.monotonic(), optimizer.param_groups[0]["lr"]
        module.train()
        steps.sums.zero_()
        train.sampler.set_epoch(epoch)
        for batch in train:
            steps.step(batch, next(searching) if epoch >= method.warmup_epochs else None)
        loss, accuracy = (steps.sums / len(train)).tolist()
        if not all(bool(each.isfinite().all()) for each in (steps.sums, *alphas)):
            raise SearchError(
                f"A loss was not finite in epoch {epoch}; the search stops and the checkpoint before stays. Try a "
                "smaller learning rate, clipping, or another precision."
            )
        row = {"epoch": epoch, "lr": lr, "train/loss": loss, "train/accuracy": accuracy}
        method.set_weights_for_validation()
        if options.data.held_out and (epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0:
            row |= evaluate(module, data.val_dataloader(), dtype)
        schedule.step()
        health = method.record(epoch, (epoch + 1) * len(train))
        row |= {**health.as_metrics(), "seconds": round(time.monotonic() - began, 3)}
        rows.append(row)
        write_json(run / "curves.json", rows)
        write()
        state = {name: part.state_dict() for name, part in parts.items()}
        file.parent.mkdir(exist_ok=True)
        torch.save({**state, "alphas": method.alphas, "rows": rows, "history": method.history}, file)
        print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        now = SimpleNamespace(current_epoch=epoch, should_stop=False)
        method.watch.look(health, now)
        if now.should_stop:
            break
