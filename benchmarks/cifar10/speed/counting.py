"""Counts the work that a piece of PyTorch code dispatches; it does not depend on the machine or its load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

NO_WORK = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "profiler::", "prim::")


class WorkOperations(TorchDispatchMode):
    """Inside, counts the ATen calls that do work, in forward and backward passes and optimizers alike.

    Not counted are views (by their schema, and `_unsafe_view`, which is one), allocations without a value
    (`empty` and its kin; `zeros` writes, and counts) and the profiler's marks. A call on a list of
    tensors, such as `_foreach_add_`, counts once.

    Attributes:
        calls: how often each operation was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func._schema.name
        if not func.is_view and not name.startswith(NO_WORK):
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return self.calls.total()
