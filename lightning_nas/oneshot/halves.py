"""The two halves of the training data: one trains the weights, the other the alphas.

Both loaders draw their order from (seed, epoch) and can say and take up their position, so that a search
that was interrupted in mid-epoch goes on with the batch that would have come next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

_KEPT = (
    "batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn",
    "multiprocessing_context", "prefetch_factor", "persistent_workers",
)  # fmt: skip


class _Order(DistributedSampler[int]):
    """An order drawn from (seed, epoch), of which the first `start` indices are left out once."""

    start = 0

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.start = (
                0  # an epoch may end early (`limit_train_batches`); the next one begins at its first batch
            )
        super().set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        return iter(list(super().__iter__())[start:])


class ResumableLoader(DataLoader[Any]):
    """A DataLoader that can go on in mid-epoch.

    Args:
        loader: whose settings are taken over.
        indices: the examples of its dataset to load.
        seed: decides the order, with the epoch.
        rank, world_size: this process loads every `world_size`-th index from `rank` on, as
            `DistributedSampler` does.
    """

    def __init__(
        self, loader: DataLoader[Any], indices: Sequence[int], seed: int, rank: int, world_size: int
    ) -> None:
        dataset: Dataset[Any] = Subset(loader.dataset, list(indices))
        order = _Order(
            dataset,
            num_replicas=world_size,
            rank=rank,
            shuffle=not isinstance(loader.sampler, SequentialSampler),
            seed=seed,
            drop_last=loader.drop_last,
        )
        settings = {name: getattr(loader, name) for name in _KEPT}
        # Each pass draws one number for its workers; from torch's own generator, a pass that begins again in
        # mid-epoch would draw one too many.
        super().__init__(dataset, sampler=order, generator=torch.Generator(), **settings)
        self._seen = 0

    @property
    def _order(self) -> _Order:
        return cast(_Order, self.sampler)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator, so that nothing happens before the first batch is asked for: Lightning makes the
        # iterator first and sets the epoch then.
        self._seen = self._order.start // cast(int, self.batch_size)
        cast(torch.Generator, self.generator).manual_seed(hash((self._order.seed, self._order.epoch)))
        for batch in super().__iter__():
            self._seen += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Which epoch, and how many of its batches have been loaded."""
        return {"epoch": self._order.epoch, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after the batches that `state` says; a finished epoch is followed by a fresh one."""
        self._order.set_epoch(state["epoch"])
        seen = state["seen"] % max(len(self), 1)
        self._seen = seen
        self._order.start = seen * cast(int, self.batch_size)


def check_can_split(loader: Any) -> DataLoader[Any]:
    """The loader, if its order is one that halves can have too.

    Raises:
        ValueError: if it is not a DataLoader over a dataset with a length, in order or shuffled.
    """
    reason = None
    if isinstance(loader, (list, tuple, dict)) or not isinstance(loader, DataLoader):
        reason = f"are a {type(loader).__name__}"
    elif isinstance(loader.dataset, IterableDataset):
        reason = "are an IterableDataset"
    elif type(loader).__iter__ not in (DataLoader.__iter__, ResumableLoader.__iter__):
        reason = f"come from a {type(loader).__name__} with an order of its own"
    elif loader.batch_size is None:
        reason = "have a batch sampler of their own"
    elif not isinstance(
        loader.sampler, (RandomSampler, SequentialSampler, SubsetRandomSampler, DistributedSampler)
    ):
        reason = f"have a {type(loader.sampler).__name__}"
    if reason is not None:
        raise ValueError(
            f"The training data cannot be split in halves, since they {reason}; give search_data= a loader of the "
            "data for the alphas."
        )
    return cast("DataLoader[Any]", loader)


def _population(loader: DataLoader[Any]) -> np.ndarray:
    sampler = loader.sampler
    if isinstance(sampler, SubsetRandomSampler):
        return np.asarray(sampler.indices)
    return np.arange(len(cast(Any, loader.dataset)))


def halves(
    loader: Any, share: float, seed: int, rank: int = 0, world_size: int = 1
) -> tuple[ResumableLoader, ResumableLoader]:
    """Two loaders over a random split of a loader's examples.

    Args:
        loader: a plain DataLoader.
        share: of the examples, in (0, 1), for the first.
        seed: decides the split and the orders.
        rank, world_size: as in `ResumableLoader`.

    Raises:
        ValueError: if it cannot be split, a half would be empty, or the second half has one class only.
    """
    loader = check_can_split(loader)
    indices = np.random.default_rng(seed).permutation(_population(loader))
    cut = round(share * len(indices))
    if not 0 < cut < len(indices):
        raise ValueError(f"There are no training data to split: {len(indices)} examples make no two halves.")
    first, second = indices[:cut].tolist(), indices[cut:].tolist()
    classes = _classes(loader.dataset, second)
    if classes is not None and len(classes) == 1:
        raise ValueError(
            f"The search half ({len(second)} examples) has examples of class {classes.pop()} only; the alphas need all "
            "classes. Check the data, or give search_data=."
        )
    return (
        ResumableLoader(loader, first, seed, rank, world_size),
        ResumableLoader(loader, second, seed + 1, rank, world_size),
    )


def whole(loader: Any, seed: int, rank: int = 0, world_size: int = 1) -> Any:
    """A resumable loader over all of a loader's examples; loaders of another kind are returned as they are."""
    try:
        loader = check_can_split(loader)
    except ValueError:
        return loader
    return ResumableLoader(loader, _population(loader).tolist(), seed, rank, world_size)


def _classes(dataset: Any, indices: Sequence[int]) -> set[int] | None:
    """The classes of some examples, where the dataset says them without loading images; else None."""
    while isinstance(dataset, Subset):
        dataset, indices = dataset.dataset, [dataset.indices[i] for i in indices]
    targets: Any = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if targets is None and isinstance(dataset, TensorDataset):
        targets = dataset.tensors[-1]
    try:
        values = np.asarray(targets)
    except (TypeError, ValueError):
        return None
    if values.ndim != 1 or values.dtype.kind not in "iu" or len(values) <= max(indices):
        return None
    return set(np.unique(values[list(indices)]).tolist())


class Stream:
    """Batches without end, epoch after epoch, with a position that can be saved.

    Args:
        make: makes the loader, the first time a batch is asked for.
    """

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self._make = make
        self._loader: Any = None
        self._batches: Iterator[Any] | None = None
        self._epoch = self._seen = 0
        self._skip = 0

    def __next__(self) -> Any:
        if self._loader is None:
            self._loader = self._make()
        for _ in range(2):
            if self._batches is None:
                self._begin()
            try:
                batch = next(cast("Iterator[Any]", self._batches))
            except StopIteration:
                self._batches, self._epoch, self._seen = None, self._epoch + 1, 0
                continue
            self._seen += 1
            return batch
        raise ValueError("The search data are empty; there must be at least one batch for the alphas.")

    def _begin(self) -> None:
        """Starts the epoch, or goes on in it where a loaded state says so."""
        sampler: Any = getattr(self._loader, "sampler", None)
        skip, self._skip = self._skip, 0
        if isinstance(self._loader, ResumableLoader):
            if skip >= len(self._loader):  # the position is the end of an epoch
                self._epoch, self._seen, skip = self._epoch + 1, 0, 0
            self._loader.load_state_dict({"epoch": self._epoch, "seen": skip})
            skip = 0
        elif hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self._epoch)
        self._batches = iter(self._loader)
        for _ in range(skip):
            next(self._batches, None)

    def state_dict(self) -> dict[str, int]:
        """The position."""
        return {"epoch": self._epoch, "seen": self._seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from a position."""
        self._batches = None
        self._epoch, self._seen = state["epoch"], state["seen"]
        self._skip = state["seen"]
