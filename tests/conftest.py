"""What every test shares: the real data, one thread, the skipped devices, and nothing left behind."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

# Machines that run tests are busy: how long an example takes says nothing.
hypothesis.settings.register_profile("lightning-nas", deadline=None)
hypothesis.settings.load_profile("lightning-nas")

# Set by pytest, by Lightning when it looks for a GPU, by torch when it first compiles, by Ray when imported.
NOT_OURS = {
    "PYTEST_CURRENT_TEST",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
    "TORCHINDUCTOR_CACHE_DIR",
    "RAY_CLIENT_MODE",
}

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# Read by torch when it loads: tests run side by side with the processes they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips, with the reason, what this machine cannot run."""
    if item.get_closest_marker("data") and not SHARED_DATA.is_dir():
        pytest.skip(f"the real data sets are not at {SHARED_DATA}")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch finds no CUDA device")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets, `../shared/data` beside the checkout; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data sets are not at {SHARED_DATA}")
    return SHARED_DATA


CIFAR10 = Path(__file__).resolve().parents[1] / "benchmarks" / "cifar10"
CIFAR10_SCRIPTS = ("data", "lit", "pictures", "graphed", "search", "retrain", "export")


@pytest.fixture(scope="module")
def cifar() -> Iterator[SimpleNamespace]:
    """The scripts of `benchmarks/cifar10/` as modules, which import each other by their bare names; and `configs`."""
    sys.path.insert(0, str(CIFAR10))
    try:
        modules = {name: importlib.import_module(name) for name in CIFAR10_SCRIPTS}
        yield SimpleNamespace(**modules, configs=CIFAR10 / "configs")
    finally:
        sys.path.remove(str(CIFAR10))
        for name in CIFAR10_SCRIPTS:
            sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test that leaves an environment variable, a working folder or a child process behind."""
    environment, folder = dict(os.environ), Path.cwd()
    yield
    left = [f"process {child.name}" for child in multiprocessing.active_children()]
    changed = {name for name, _ in environment.items() ^ os.environ.items()} - NOT_OURS
    left += [f"environment variable {name}" for name in sorted(changed)]
    if Path.cwd() != folder:
        left.append(f"working folder {Path.cwd()}")
        os.chdir(folder)
    assert not left, f"The test left behind: {', '.join(left)}."


@pytest.fixture(autouse=True)
def torchs_own_loaders() -> Iterator[None]:
    """A Trainer that fails while its loaders are made must not harm the tests after it; see `evaluators/loaders.py`."""
    yield
    data = sys.modules.get("torch.utils.data")
    for cls in () if data is None else (data.DataLoader, data.BatchSampler):
        for name in [name for name in vars(cls) if name.startswith("__old__")]:
            setattr(cls, name.removeprefix("__old"), vars(cls)[name])
            delattr(cls, name)
