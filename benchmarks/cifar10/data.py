"""CIFAR-10 and sets like it: read once, kept whole as bytes where the network is, augmented in batches.

An epoch's order and all its augmentation are drawn from (seed, epoch) by one generator on the CPU and sent to
the device at once, so that CPU and GPU see the same images, a resumed epoch goes on with the very next batch,
and no step waits for Python to work on single images.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from lightning_nas.digits import digits

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
PADDING = 4


class Images(NamedTuple):
    """`pixels` uint8 of shape (n, h, w, 3), `labels` int64 of shape (n,)."""

    pixels: np.ndarray
    labels: np.ndarray


def read(root: str, download: bool = False, cache: str | None = None) -> tuple[Images, Images]:
    """The training set and the test set.

    Args:
        root: "digits": the 1,797 digits that come with the package, blown up to 32x32; a file `*.npz` of JPEG
            streams; a folder with `train/<class>/*.png|jpg` and `test/<class>/...`; otherwise the folder of
            torchvision's CIFAR-10.
        download: let torchvision download CIFAR-10 into `root`.
        cache: the folder that keeps decoded `.npz` and image folders; None: in the system's temporary folder.

    Raises:
        FileNotFoundError: if there is no such set.
        ValueError: if the images are not alike, or the classes of both sets differ.
    """
    if root == "digits":
        return _digits()
    path = Path(root)
    if path.suffix == ".npz" or (path / "train").is_dir():
        if not path.exists():
            raise FileNotFoundError(f"There is no file {path}.")
        return _cached(path, Path(cache or Path(tempfile.gettempdir()) / "cifar10-decoded"))
    from torchvision.datasets import CIFAR10

    try:
        sets = [CIFAR10(root, train=train, download=download) for train in (True, False)]
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{path} is no .npz, has no folder train/, and holds no CIFAR-10 of torchvision's "
            f"({' '.join(str(error).split())}); --data.download true fetches it."
        ) from None
    train, test = (Images(each.data, np.asarray(each.targets)) for each in sets)
    return train, test


def _digits() -> tuple[Images, Images]:
    images, labels = digits()
    blown = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear")
    pixels = (blown * 255).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    order = np.random.default_rng(0).permutation(len(labels))
    parts = np.split(order, [1497])
    train, test = (Images(pixels[part], labels.numpy()[part]) for part in parts)
    return train, test


def _cached(path: Path, cache: Path) -> tuple[Images, Images]:
    """Decodes, or reads what was decoded before from the same file or folder."""
    files = [path] if path.is_file() else sorted(path.glob("t*/*/*"))
    state = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    kept = cache / f"{hashlib.sha256(repr(state).encode()).hexdigest()[:16]}.npz"
    if kept.exists():
        with np.load(kept) as z:
            return Images(z["train"], z["train_labels"]), Images(z["test"], z["test_labels"])
    train, test = _jpeg_streams(path) if path.is_file() else _folders(path)
    cache.mkdir(parents=True, exist_ok=True)
    # Two ranks may come here at once: each writes a file of its own and puts it in place when it is whole.
    with tempfile.NamedTemporaryFile(dir=cache, suffix=".npz", delete=False) as draft:
        np.savez(
            draft, train=train.pixels, train_labels=train.labels, test=test.pixels, test_labels=test.labels
        )
    Path(draft.name).replace(kept)
    return train, test


def _decoded(source: Any, name: str, size: tuple[int, int] | None) -> np.ndarray:
    from PIL import Image

    with Image.open(source) as image:
        pixels = np.asarray(image.convert("RGB"))
    if size is not None and pixels.shape[:2] != size:
        raise ValueError(f"All images must have the same size, but {name} is {pixels.shape[:2]}, not {size}.")
    return pixels


def _jpeg_streams(path: Path) -> tuple[Images, Images]:
    """`header`: the bytes that all files begin with; `body`: the others; `offset`, `label`, `split` (1: test)."""
    with np.load(path) as z:
        header, body, offset = z["header"].tobytes(), z["body"].tobytes(), z["offset"]
        labels, split = z["label"].astype(np.int64), z["split"]
    pixels = np.stack(
        [
            _decoded(io.BytesIO(header + body[start:end]), f"image {i} of {path}", (32, 32))
            for i, (start, end) in enumerate(itertools.pairwise(offset))
        ]
    )
    return Images(pixels[split == 0], labels[split == 0]), Images(pixels[split == 1], labels[split == 1])


def _folders(path: Path) -> tuple[Images, Images]:
    sets, size = [], None
    classes = sorted(folder.name for folder in (path / "train").iterdir() if folder.is_dir())
    for part in ("train", "test"):
        found = sorted(folder.name for folder in (path / part).glob("*") if folder.is_dir())
        if found != classes:
            raise ValueError(f"{path / part} must have the classes {classes}, but has {found}.")
        pixels, labels = [], []
        for label, name in enumerate(classes):
            for file in sorted((path / part / name).iterdir()):
                if file.suffix.lower() in (".png", ".jpg", ".jpeg"):
                    pixels.append(_decoded(file, str(file), size))
                    size = size or pixels[0].shape[:2]
                    labels.append(label)
        if not pixels:
            raise FileNotFoundError(f"There are no .png or .jpg files in {path / part}/<class>/.")
        sets.append(Images(np.stack(pixels), np.asarray(labels, dtype=np.int64)))
    return sets[0], sets[1]


class Epoch:
    """The number of the epoch; Lightning and one-shot searches set it at a loader's `sampler`."""

    def __init__(self) -> None:
        self.number = 0

    def set_epoch(self, epoch: int) -> None:
        self.number = epoch


@dataclass(frozen=True)
class Pool:
    """All images of a set on one device.

    Args:
        pixels: uint8, (n, h + 2 * PADDING, w + 2 * PADDING, 3), black around the images.
        labels: int64, (n,).
    """

    pixels: Tensor
    labels: Tensor

    @classmethod
    def of(cls, images: Images, device: torch.device) -> Pool:
        pad = (PADDING, PADDING)
        pixels = np.pad(images.pixels, ((0, 0), pad, pad, (0, 0)))
        return cls(torch.from_numpy(pixels).to(device), torch.from_numpy(images.labels.copy()).to(device))


class Batches:
    """Augmented batches of images that lie on a device; iterated anew in each epoch.

    Args:
        pool: the images.
        indices: those of them to use.
        batch_size: per process.
        augment: shuffle, crop at random (padding 4) and flip; otherwise the images come as they are, in order.
        cutout: side of the square that is blotted out in each image, in pixels; 0 for none.
        seed: decides order and augmentation, with the epoch.
        drop_last: leave out what does not fill a batch, so that all batches have one shape.
        rank, world_size: this process takes every `world_size`-th image of the order, from `rank` on.
        channels_last: the memory format of the batches.

    Yields pairs: float32 (b, 3, h, w), normalised, and int64 (b,).

    Source: cutout is that of DeVries and Taylor, 2017 (arXiv:1708.04552): squares may overlap the edge.
    """

    def __init__(
        self,
        pool: Pool,
        indices: np.ndarray,
        batch_size: int,
        *,
        augment: bool,
        cutout: int = 0,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        channels_last: bool = False,
    ) -> None:
        share = len(indices) // world_size if drop_last else -(-(len(indices) - rank) // world_size)
        steps = share // batch_size if drop_last else -(-share // batch_size)
        if steps < 1:
            raise ValueError(
                f"{len(indices)} images over {world_size} process(es) make no batch of {batch_size}."
            )
        self.pool = pool
        self.indices = indices
        self.batch_size = batch_size
        self.augment = augment
        self.cutout = cutout
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.channels_last = channels_last
        self.sampler = Epoch()
        self.batch_sampler = None  # Lightning asks for it wherever there is a sampler
        self._steps = steps
        self._share = min(share, steps * batch_size)
        self._seen = 0
        self._resumed = (-1, 0)
        device = pool.pixels.device
        self._ramp = torch.arange(pool.pixels.shape[1] - 2 * PADDING, device=device)
        self._scale = (1 / (255 * torch.tensor(STD))).view(3, 1, 1).to(device)
        self._shift = (-torch.tensor(MEAN) / torch.tensor(STD)).view(3, 1, 1).to(device)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # A generator: Lightning makes the iterator first and sets the epoch before the first batch is asked for.
        epoch, first = self._resumed
        self._resumed = (-1, 0)
        self._seen = first = first if epoch == self.sampler.number else 0
        plan = self._plan().to(self.pool.pixels.device)
        for part in plan[first * self.batch_size :].split(self.batch_size):
            self._seen += 1
            yield self._batch(part)

    def _plan(self) -> Tensor:
        """For each image of this epoch and process: index, top, left, flipped, centre of the cutout (y, x)."""
        rng = np.random.default_rng([self.seed, self.sampler.number])
        n, side = len(self.indices), len(self._ramp)
        plan = np.full((n, 6), PADDING)
        plan[:, 0] = self.indices
        plan[:, 3:] = 0
        if self.augment:
            plan[:, 0] = rng.permutation(self.indices)
            plan[:, 1:3] = rng.integers(2 * PADDING + 1, size=(n, 2))
            plan[:, 3] = rng.integers(2, size=n)
        if self.cutout:
            plan[:, 4:] = rng.integers(side, size=(n, 2))
        return torch.from_numpy(plan[self.rank :: self.world_size][: self._share].copy())

    def _batch(self, plan: Tensor) -> tuple[Tensor, Tensor]:
        index, top, left, flipped, y, x = (column[:, None] for column in plan.unbind(1))
        ramp = self._ramp
        rows = top + ramp
        columns = left + torch.where(flipped == 1, len(ramp) - 1 - ramp, ramp)
        pixels = self.pool.pixels[index[:, :, None], rows[:, :, None], columns[:, None, :]]
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=form)
        images = images * self._scale + self._shift
        if self.cutout:
            half = self.cutout // 2
            out_y = (ramp >= y - half) & (ramp < y - half + self.cutout)
            out_x = (ramp >= x - half) & (ramp < x - half + self.cutout)
            # Unlike masked_fill, a product keeps the memory format.
            images = images * ~(out_y[:, :, None] & out_x[:, None, :])[:, None]
        return images, self.pool.labels[index[:, 0]]

    def state_dict(self) -> dict[str, int]:
        """Which epoch, and how many of its batches have been given."""
        return {"epoch": self.sampler.number, "seen": self._seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on after these batches, if the next epoch to be iterated is that one."""
        self._resumed = (state["epoch"], state["seen"])
        self.sampler.set_epoch(state["epoch"])


class Cifar10(LightningDataModule):
    """The training images in two parts, and the test images.

    Args:
        root: where the images are; see `read`.
        batch_size: in training, per process.
        held_out: share of the training images, in [0, 1), that the weights never see: for the alphas in a
            search, and for validation.
        cutout: side of the square that is blotted out in training, in pixels; 0 for none.
        train_examples: how many of the training images to use, held out ones included; None for all.
        test_examples: how many of the test images to use; None for all.
        test_batch_size: in validation and testing, per process.
        seed: decides which images are used and held out, their order and augmentation.
        channels_last: the memory format of the batches.
        download: let torchvision download CIFAR-10 into `root`.
        cache: where decoded images are kept; None for the system's temporary folder.

    Attributes:
        device: where the images lie when there is no Trainer.
    """

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 64,
        held_out: float = 0.5,
        cutout: int = 0,
        train_examples: int | None = None,
        test_examples: int | None = None,
        test_batch_size: int = 500,
        seed: int = 0,
        channels_last: bool = False,
        download: bool = False,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= held_out < 1:
            raise ValueError(f"`0 <= held_out < 1` must hold, but got {held_out=}.")
        self.root = root
        self.batch_size = batch_size
        self.held_out = held_out
        self.cutout = cutout
        self.train_examples = train_examples
        self.test_examples = test_examples
        self.test_batch_size = test_batch_size
        self.seed = seed
        self.channels_last = channels_last
        self.download = download
        self.cache = cache
        self.device = torch.device("cpu")
        self._pools: dict[str, Pool] = {}

    def prepare_data(self) -> None:
        read(self.root, self.download, self.cache)  # one process decodes before the others come

    def setup(self, stage: str | None = None) -> None:
        if hasattr(self, "_sets"):
            return
        train, test = read(self.root, cache=self.cache)
        self._sets = {"train": train, "test": test}
        rng = np.random.default_rng(self.seed)
        used = rng.permutation(len(train.labels))[: self.train_examples]
        cut = len(used) - round(self.held_out * len(used))
        self._indices = {
            "train": used[:cut],
            "held_out": np.sort(used[cut:]),
            "test": np.sort(rng.permutation(len(test.labels))[: self.test_examples]),
        }

    @property
    def num_classes(self) -> int:
        """Of the set; known after `setup`."""
        return int(self._sets["train"].labels.max()) + 1

    def _batches(self, part: str, **options: Any) -> Batches:
        name = "test" if part == "test" else "train"
        trainer = self.trainer
        device = self.device if trainer is None else trainer.strategy.root_device
        if name not in self._pools or self._pools[name].pixels.device != device:
            self._pools[name] = Pool.of(self._sets[name], device)
        place = {} if trainer is None else {"rank": trainer.global_rank, "world_size": trainer.world_size}
        settings: dict[str, Any] = {"batch_size": self.test_batch_size, "augment": False, **place, **options}
        return Batches(self._pools[name], self._indices[part], channels_last=self.channels_last, **settings)

    def _training_batches(self, part: str, seed: int) -> Batches:
        return self._batches(
            part, batch_size=self.batch_size, augment=True, cutout=self.cutout, seed=seed, drop_last=True
        )

    def train_dataloader(self) -> Batches:
        return self._training_batches("train", 2 * self.seed)

    def search_dataloader(self) -> Batches:
        """The held out images, augmented: for the alphas."""
        return self._training_batches("held_out", 2 * self.seed + 1)

    def val_dataloader(self) -> Any:
        """The held out images as they are; nothing, which Lightning warns of, if none are."""
        return self._batches("held_out") if len(self._indices["held_out"]) else []

    def test_dataloader(self) -> Batches:
        return self._batches("test")
