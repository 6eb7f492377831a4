"""The images come as they are on the disk, augmented as the papers say, in an order that can be taken up again."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image


def pool(cifar: SimpleNamespace, n: int = 40, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    images = cifar.data.Images(rng.integers(1, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n))
    return cifar.data.Pool.of(images, torch.device("cpu")), images


def batches(cifar: SimpleNamespace, n: int = 40, **options: Any) -> Any:
    made, _ = pool(cifar, n)
    settings = {"batch_size": 8, "augment": True, "cutout": 8, "seed": 3, "drop_last": True, **options}
    return cifar.data.Batches(made, np.arange(n), **settings)


def bytes_of(cifar: SimpleNamespace, x: torch.Tensor) -> np.ndarray:
    """(b, 3, h, w) normalised -> (b, h, w, 3) in bytes."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (cifar.data.MEAN, cifar.data.STD))
    return ((x * std + mean) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def test_without_augmentation_images_come_as_they_are_and_in_order(cifar: SimpleNamespace) -> None:
    made, images = pool(cifar)
    loader = cifar.data.Batches(made, np.arange(40), batch_size=16, augment=False)
    x, y = (torch.cat(parts) for parts in zip(*loader))
    assert y.tolist() == list(range(40))
    assert np.array_equal(bytes_of(cifar, x), images.pixels)
    assert [len(y) for _, y in loader] == [16, 16, 8]


def test_an_augmented_image_is_a_crop_of_its_padded_self_perhaps_flipped(cifar: SimpleNamespace) -> None:
    made, images = pool(cifar)
    loader = cifar.data.Batches(made, np.arange(40), batch_size=8, augment=True, seed=1)
    padded = np.pad(images.pixels, ((0, 0), (4, 4), (4, 4), (0, 0)))
    places, seen = set(), []
    for x, y in loader:
        for pixels, label in zip(bytes_of(cifar, x), y.tolist()):
            found = [
                (top, left, flipped)
                for top in range(9)
                for left in range(9)
                for flipped in (False, True)
                if np.array_equal(
                    pixels[:, ::-1] if flipped else pixels,
                    padded[label, top : top + 32, left : left + 32],
                )
            ]
            assert len(found) == 1
            places.add(found[0])
            seen.append(label)
    assert sorted(seen) == list(range(40))
    assert seen != sorted(seen)
    # 40 draws of 162 places: fewer than 25 different ones have a chance below 1e-6.
    assert len(places) > 25
    assert {flipped for _, _, flipped in places} == {False, True}


def test_cutout_blots_out_a_square_that_may_overlap_the_edge(cifar: SimpleNamespace) -> None:
    sizes = []
    for x, _ in batches(cifar, n=400, cutout=16):
        for image in x:
            out = (image == 0).all(0)
            rows, columns = out.any(1).sum(), out.any(0).sum()
            assert out.sum() == rows * columns
            assert 8 <= rows <= 16
            assert 8 <= columns <= 16
            sizes.append(int(rows))
    assert {8, 16} <= set(sizes)


def test_order_and_augmentation_follow_from_seed_and_epoch(cifar: SimpleNamespace) -> None:
    def epoch(seed: int, number: int) -> torch.Tensor:
        loader = batches(cifar, seed=seed)
        loader.sampler.set_epoch(number)
        return torch.cat([x for x, _ in loader])

    assert torch.equal(epoch(3, 1), epoch(3, 1))
    assert not torch.equal(epoch(3, 1), epoch(3, 2))
    assert not torch.equal(epoch(3, 1), epoch(4, 1))


@pytest.mark.parametrize("after", range(5))
def test_a_loader_goes_on_with_the_very_next_batch(cifar: SimpleNamespace, after: int) -> None:
    whole = batches(cifar)
    whole.sampler.set_epoch(2)
    stream = iter(whole)
    for _ in range(after):
        next(stream)
    state = whole.state_dict()
    again = batches(cifar)
    again.load_state_dict(state)
    rest = list(again)
    assert len(rest) == 5 - after
    assert all(torch.equal(x, there) for (x, _), (there, _) in zip(rest, stream))
    assert len(list(again)) == 5  # the next pass is whole again


def test_an_epoch_that_was_cut_short_is_followed_by_a_whole_one(cifar: SimpleNamespace) -> None:
    short = batches(cifar)
    next(iter(short))
    again = batches(cifar)
    again.load_state_dict(short.state_dict())
    again.sampler.set_epoch(1)
    assert len(list(again)) == 5


def test_ranks_share_an_epoch_without_overlap_and_in_equal_parts(cifar: SimpleNamespace) -> None:
    whole = {int(label): x for xs, ys in batches(cifar, batch_size=20) for x, label in zip(xs, ys)}
    shares = [batches(cifar, rank=rank, world_size=2, batch_size=10) for rank in (0, 1)]
    labels = [[int(label) for _, ys in share for label in ys] for share in shares]
    assert [len(each) for each in labels] == [20, 20]
    assert sorted(labels[0] + labels[1]) == sorted(whole)
    for share in shares:
        for xs, ys in share:
            assert all(torch.equal(x, whole[int(label)]) for x, label in zip(xs, ys))


@pytest.mark.parametrize("n", [5, 6, 7])
def test_ranks_evaluate_every_image_once(cifar: SimpleNamespace, n: int) -> None:
    made, _ = pool(cifar, n)
    found = []
    for rank in range(3):
        loader = cifar.data.Batches(made, np.arange(n), batch_size=2, augment=False, rank=rank, world_size=3)
        found += [int(label) for _, ys in loader for label in ys]
    assert sorted(found) == list(range(n))


def test_channels_last_changes_the_memory_format_alone(cifar: SimpleNamespace) -> None:
    for (plain, _), (last, _) in zip(batches(cifar), batches(cifar, channels_last=True)):
        assert torch.equal(plain, last)
        assert plain.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)


def test_too_few_images_for_a_batch_are_refused(cifar: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"7 images over 2 process\(es\) make no batch of 4"):
        batches(cifar, n=7, batch_size=4, world_size=2)


def test_the_halves_share_no_image_and_the_seed_decides(cifar: SimpleNamespace) -> None:
    def labels_in(seed: int) -> tuple[list[int], list[int]]:
        data = cifar.data.Cifar10("digits", batch_size=10, seed=seed, train_examples=200)
        data.setup()
        return data._indices["train"].tolist(), data._indices["held_out"].tolist()

    train, held_out = labels_in(0)
    assert len(train) == len(held_out) == 100
    assert not set(train) & set(held_out)
    assert labels_in(0) == (train, held_out)
    assert labels_in(1)[0] != train


def test_without_held_out_images_there_is_no_validation(cifar: SimpleNamespace) -> None:
    data = cifar.data.Cifar10("digits", held_out=0.0)
    data.setup()
    assert data.val_dataloader() == []
    assert len(data.train_dataloader()) == 1497 // 64
    assert data.num_classes == 10


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    return file.getvalue()


def test_jpeg_streams_are_decoded_once_and_split(cifar: SimpleNamespace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    streams = [jpeg(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(6)]
    start = next(i for i in range(1000) if len({stream[: i + 1] for stream in streams}) > 1)
    bodies = [stream[start:] for stream in streams]
    np.savez(
        tmp_path / "set.npz",
        header=np.frombuffer(streams[0][:start], np.uint8),
        body=np.frombuffer(b"".join(bodies), np.uint8),
        offset=np.cumsum([0, *map(len, bodies)]),
        label=np.array([0, 1, 2, 0, 1, 2], np.uint8),
        split=np.array([0, 0, 0, 0, 1, 1], np.uint8),
    )
    cache = tmp_path / "cache"
    for _ in range(2):
        train, test = cifar.data.read(str(tmp_path / "set.npz"), cache=str(cache))
        decoded = [np.asarray(Image.open(io.BytesIO(stream))) for stream in streams]
        assert np.array_equal(train.pixels, decoded[:4])
        assert np.array_equal(test.pixels, decoded[4:])
        assert train.labels.tolist() == [0, 1, 2, 0]
        assert test.labels.tolist() == [1, 2]
        assert len(list(cache.iterdir())) == 1


def write_folders(root: Path, classes: dict[str, tuple[str, ...]], size: int = 32) -> None:
    for part, names in classes.items():
        for number, name in enumerate(names):
            (root / part / name).mkdir(parents=True)
            for i in range(2):
                pixels = np.full((size, size, 3), 10 * number + i, np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")


def test_image_folders_are_read_with_their_classes_in_order(cifar: SimpleNamespace, tmp_path: Path) -> None:
    write_folders(tmp_path / "set", {"train": ("frog", "cat"), "test": ("cat", "frog")})
    train, test = cifar.data.read(str(tmp_path / "set"), cache=str(tmp_path / "cache"))
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1]
    assert train.pixels[:, 0, 0, 0].tolist() == [10, 11, 0, 1]  # cat, then frog
    assert train.pixels.shape == (4, 32, 32, 3)


def test_folders_whose_classes_differ_are_refused(cifar: SimpleNamespace, tmp_path: Path) -> None:
    write_folders(tmp_path / "set", {"train": ("frog", "cat"), "test": ("cat",)})
    with pytest.raises(ValueError, match=r"must have the classes \['cat', 'frog'\], but has \['cat'\]"):
        cifar.data.read(str(tmp_path / "set"), cache=str(tmp_path / "cache"))


def test_torchvisions_folder_is_read(cifar: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    class Stored:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            n = 4 if train else 2
            assert (root, download) == ("/somewhere", False)
            self.data, self.targets = np.zeros((n, 32, 32, 3), np.uint8), list(range(n))

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Stored)
    train, test = cifar.data.read("/somewhere")
    assert train.labels.tolist() == [0, 1, 2, 3]
    assert test.pixels.shape == (2, 32, 32, 3)


def test_a_folder_without_images_is_refused(cifar: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no CIFAR-10 of torchvision's"):
        cifar.data.read(str(tmp_path))


@pytest.mark.slow
@pytest.mark.data
def test_the_real_jpeg_cifar10_has_its_known_figures(
    cifar: SimpleNamespace, shared_data: Path, tmp_path: Path
) -> None:
    train, test = cifar.data.read(str(shared_data / "cifar10-jpeg.npz"), cache=str(tmp_path))
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    means = train.pixels.mean((0, 1, 2)) / 255
    assert means.round(4).tolist() == [0.4913, 0.4821, 0.4465]
