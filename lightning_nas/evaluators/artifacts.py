"""What is kept of a trained model: `weights.pt` and `inputs.pt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

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
        self._handle: RemovableHandle | None = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes the hook off the model. Called again, it does nothing."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def watch(self, model: nn.Module) -> None:
        """Takes `model` for the one to keep, and forgets the one before. Adds a hook to it until `close`."""
        self.close()
        self._model, self._inputs, self._rank = model, None, 0
        self._handle = model.register_forward_pre_hook(self._see, with_kwargs=True)

    def save(self, directory: Path) -> None:
        """Writes the files of the model watched last; nothing if there was none.

        Args:
            directory: gets `weights.pt`, the `state_dict` on the CPU, and, if the model was called with
                tensors alone, `inputs.pt`, a tuple of them on the CPU with at most 8 rows. Both can be
                loaded with `weights_only=True`.
        """
        if self._model is None:
            return
        state = {name: _to_cpu(value) for name, value in self._model.state_dict().items()}
        torch.save(state, directory / WEIGHTS)
        if self._inputs is not None:
            torch.save(self._inputs, directory / INPUTS)

    def _see(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The hook: keeps `args` if they are better than what was seen before."""
        if kwargs or not args or not all(isinstance(each, Tensor) and each.ndim > 0 for each in args):
            return
        rows = args[0].shape[0]
        # A last batch of one row hides what mixes rows, and batch normalisation refuses it.
        rank = 1 + (rows >= 2) + 2 * (not model.training)
        if rank > self._rank:
            self._rank = rank
            self._inputs = tuple(_first_rows(each, rows) for each in args)
        if self._rank == 4:
            self.close()


def _first_rows(tensor: Tensor, rows: int) -> Tensor:
    """A copy of the first rows on the CPU; all of a tensor that has not `rows` of them."""
    part = tensor[:MOST_ROWS] if tensor.shape[0] == rows else tensor
    with torch.inference_mode(
        False
    ):  # Lightning validates in inference mode, whose tensors are of little use
        return part.detach().cpu().clone()


def _to_cpu(value: Any) -> Any:
    """A tensor on the CPU; anything else a module keeps in its state as it is."""
    return value.detach().cpu() if isinstance(value, Tensor) else value
