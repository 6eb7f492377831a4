"""What is kept of a trained model: `weights.pt`, `inputs.pt` and `architecture.json`."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_nas.architecture import FILE as ARCHITECTURE
from lightning_nas.architecture import Architecture
from lightning_nas.evaluators.architecture import architecture_of
from lightning_nas.mutables.tracing import leaves, replaced

WEIGHTS = "weights.pt"
INPUTS = "inputs.pt"
MOST_ROWS = 8


class Recorder:
    """Watches a model for example inputs while it is trained, then saves them beside its weights.

    The inputs are those of the first call in eval mode with at least two rows (what training does to its
    batches, such as mixing them, is not wanted); failing that, the first call that came closest.

        with Recorder() as recorder:
            recorder.watch(model)
            train(model)
            recorder.save(directory)
    """

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._inputs: tuple[Tensor, ...] | None = None
        self._rank = 0
        # Calls to draw the model by: its own by name "", its parts' until there is one.
        self._calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._handle: RemovableHandle | None = None
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes the hooks off the model. Called again, it does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        self._leave_parts()

    def watch(self, model: nn.Module) -> None:
        """Takes `model` for the one to keep, and forgets the one before. Adds hooks to it until `close`."""
        self.close()
        self._model, self._inputs, self._rank, self._calls = model, None, 0, {}
        self._handle = model.register_forward_pre_hook(self._see, with_kwargs=True)
        # Many a LightningModule is never called itself; other modules are spared the hooks.
        for name, part in model.named_children() if hasattr(model, "training_step") else ():
            see = functools.partial(self._see_part, name)
            self._handles.append(part.register_forward_pre_hook(see, with_kwargs=True))

    def save(self, directory: Path) -> None:
        """Writes the files of the model watched last; nothing if there was none. Ends the watch.

        Args:
            directory: gets `weights.pt`, the `state_dict` on the CPU; if the model was called with
                tensors alone, `inputs.pt`, a tuple of them on the CPU with at most 8 rows; and
                `architecture.json` (see `architecture_of`), of the largest part that was called where
                the model itself never was, as in many a LightningModule. If that cannot be had, a line on
                stderr says why. The first two can be loaded with `weights_only=True`.
        """
        self.close()
        if self._model is None:
            return
        state = {name: _to_cpu(value) for name, value in self._model.state_dict().items()}
        torch.save(state, directory / WEIGHTS)
        if self._inputs is not None:
            torch.save(self._inputs, directory / INPUTS)
        if (directory / ARCHITECTURE).exists():  # an earlier attempt at the same trial left it
            return
        try:
            self._draw(self._model, directory / ARCHITECTURE)
        except Exception as error:  # a picture is no reason to lose a trial
            print(f"There is no {ARCHITECTURE}: {error}", file=sys.stderr)

    def _draw(self, model: nn.Module, path: Path) -> None:
        """Writes the architecture of the model, or of its largest part that was called."""
        if not self._calls:
            raise ValueError(f"{type(model).__name__} was never called.")
        name = max(
            self._calls, key=lambda each: sum(p.numel() for p in model.get_submodule(each).parameters())
        )
        args, kwargs = self._calls[name]
        found = architecture_of(model.get_submodule(name), args, kwargs)
        if name:
            found = _below(found, name, sum(p.numel() for p in model.parameters()))
        draft = path.with_suffix(".draft")  # a trial that is killed here leaves no half of it
        draft.write_text(json.dumps(found.to_json(), separators=(",", ":")), encoding="utf-8")
        draft.replace(path)

    def _see(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The hook: keeps `args` if they are better than what was seen before."""
        if "" not in self._calls:
            self._calls = {"": _few_rows(args, kwargs)}
            self._leave_parts()
        if kwargs or not args or not all(isinstance(each, Tensor) and each.ndim > 0 for each in args):
            return
        rows = args[0].shape[0]
        # A last batch of one row hides what mixes rows, and batch normalisation refuses it.
        rank = 1 + (rows >= 2) + 2 * (not model.training)
        if rank > self._rank:
            self._rank = rank
            self._inputs = tuple(_first_rows(each, rows) for each in args)
            self._calls = {"": (self._inputs, {})}
        if self._rank == 4:
            self.close()

    def _see_part(self, name: str, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The hook of a part: keeps its first call, as long as the model itself was not called."""
        if name not in self._calls and "" not in self._calls:
            self._calls[name] = _few_rows(args, kwargs)

    def _leave_parts(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _below(part: Architecture, name: str, params: int) -> Architecture:
    """The architecture of a model of which only the part called `name` was seen."""

    def path(inside: str) -> str:
        return f"{name}.{inside}" if inside else name

    layers = [
        layer
        if layer.kind in ("input", "output")
        else replace(layer, name=path(layer.name), block=layer.block and path(layer.block))
        for layer in part.layers
    ]
    kinds = {path(inside): kind for inside, kind in part.kinds.items()}
    return replace(part, layers=tuple(layers), params=params, kinds=kinds)


def _few_rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copies of the first rows of all tensors, on the CPU."""
    rows = next((len(x) for x in leaves([args, kwargs]) if isinstance(x, Tensor) and x.ndim), 0)
    few = replaced([args, kwargs], lambda x: _first_rows(x, rows) if isinstance(x, Tensor) else x)
    return few[0], few[1]


def _first_rows(tensor: Tensor, rows: int) -> Tensor:
    """A copy of the first rows on the CPU; all of a tensor that has not `rows` of them."""
    part = tensor[:MOST_ROWS] if tensor.ndim and tensor.shape[0] == rows else tensor
    with torch.inference_mode(
        False
    ):  # Lightning validates in inference mode, whose tensors are of little use
        return part.detach().cpu().clone()


def _to_cpu(value: Any) -> Any:
    """A tensor on the CPU; anything else a module keeps in its state as it is."""
    return value.detach().cpu() if isinstance(value, Tensor) else value
