"""Claim: on a CPU one search step is at least 2.5 times faster than a port of the paper's, in 0.75 of its memory.

Compares, in one process, round by round (A B C A B C ...), one first-order search step (alphas, then
weights) of the port (`port.py`), of the plain supernet and of the fast one, at two sizes: the paper's (batch
64, C=16, L=8) and a small one (batch 16, C=8, L=5); and counts what one step dispatches. Peak memory is that of
a process of its own that takes one step. Also measures what the parts of the gain bring, at the small size, and
how far float32 gradients of the alphas drift from float64.

Writes `step.json` beside itself, with every time, the load of the machine and the versions.
Usage: python step.py [--rounds 3] [--threads 1]; takes some minutes, most of them in the port.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import port
import torch
from counting import WorkOperations
from search_step import SupernetSearch

SIZES = {
    "paper": {"batch": 64, "channels": 16, "layers": 8},
    "small": {"batch": 16, "channels": 8, "layers": 5},
}
VARIANTS = ("port", "plain", "fast")
PARTS = ("port", "plain", "plain, channels_last", "fast")


def make(variant: str, channels: int, layers: int) -> Any:
    torch.manual_seed(0)
    if variant == "port":
        return port.Search(port.Network(channels, layers))
    is_last = variant == "plain, channels_last"
    return SupernetSearch(
        channels,
        layers,
        fast=variant == "fast",
        memory_format=torch.channels_last if is_last else torch.contiguous_format,
    )


def batch(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(size, 3, 32, 32, generator=generator),
        torch.randint(10, (size,), generator=generator),
    )


def times(
    variants: tuple[str, ...],
    size: dict[str, int],
    rounds: int,
    make: Callable[[str, int, int], Any] = make,
    base: str = "port",
) -> dict[str, Any]:
    """Seconds of every step, their medians as ratios to those of `base`, and what a step dispatches.

    Seconds are those of the clock, and those the processor spent on this process, which other processes on
    the machine disturb less.
    """
    train, search = batch(size["batch"], 0), batch(size["batch"], 1)
    searches = {variant: make(variant, size["channels"], size["layers"]) for variant in variants}
    load = [round(x, 2) for x in os.getloadavg()]
    work = {}
    for variant, each in searches.items():
        few = batch(2, 0), batch(2, 1)  # counts do not depend on it
        each.step(*few)  # optimizers make their state
        with WorkOperations() as counted:
            each.step(*few)
        work[variant] = counted.total
    wall: dict[str, list[float]] = {variant: [] for variant in variants}
    processor: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant, each in searches.items():
            start, start_processor = time.perf_counter(), time.process_time()
            each.step(train, search)
            wall[variant].append(round(time.perf_counter() - start, 4))
            processor[variant].append(round(time.process_time() - start_processor, 4))

    def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
        return {v: round(median(seconds[base]) / median(seconds[v]), 2) for v in variants}

    return {
        f"times faster than the {base}": ratios(wall),
        f"times less processor time than the {base}": ratios(processor),
        "work operations": work,
        "seconds": wall,
        "processor seconds": processor,
        "load average before": load,
        "load average after": [round(x, 2) for x in os.getloadavg()],
    }


def memory(variants: tuple[str, ...], size_name: str) -> dict[str, Any]:
    """Peak resident megabytes of a process that takes one step, and of it what came after the imports."""
    found: dict[str, Any] = {}
    for variant in variants:
        command = [sys.executable, __file__, "--peak-of", variant, "--size", size_name]
        command += ["--threads", str(torch.get_num_threads())]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[variant] = json.loads(output)
    for variant in variants:
        found[variant]["share of the port's"] = round(found[variant]["peak_mb"] / found["port"]["peak_mb"], 3)
    return found


def peak_of(variant: str, size: dict[str, int]) -> dict[str, float]:
    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = peak()
    make(variant, size["channels"], size["layers"]).step(batch(size["batch"], 0), batch(size["batch"], 1))
    return {"peak_mb": round(peak()), "after_imports_mb": round(peak() - before)}


def drift(size: dict[str, int]) -> dict[str, float]:
    """How far alpha gradients in float32 lie from the plain supernet's in float64, relative to their norm."""
    images, labels = batch(size["batch"], 1)

    def gradients(variant: str, dtype: torch.dtype) -> torch.Tensor:
        search = make(variant, size["channels"], size["layers"])
        search.net.to(dtype)
        search.alphas = {k: alpha.detach().to(dtype).requires_grad_() for k, alpha in search.alphas.items()}
        found = search.alpha_gradients((images.to(dtype), labels))
        return torch.cat([gradient.flatten() for gradient in found]).double()

    exact = gradients("plain", torch.float64)
    found = {
        "plain": gradients("plain", torch.float32),
        "plain, channels_last": gradients("plain, channels_last", torch.float32),
        "fast": gradients("fast", torch.float32),
        "fast in float64": gradients("fast", torch.float64),
    }
    return {name: float((value - exact).norm() / exact.norm()) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak-of", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=SIZES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of is not None:
        print(json.dumps(peak_of(options.peak_of, SIZES[options.size])))
        return

    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    results: dict[str, Any] = {
        "commit": commit,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "threads": options.threads,
        "rounds": options.rounds,
        "sizes": SIZES,
    }
    path = Path(__file__).with_suffix(".json")

    def keep(name: str, value: Any) -> None:
        results[name] = value
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(value), flush=True)

    keep("paper, memory", memory(VARIANTS, "paper"))  # first, while this process holds none itself
    keep("small", times(PARTS, SIZES["small"], options.rounds))
    keep("small, drift of alpha gradients in float32", drift(SIZES["small"]))
    keep("paper", times(VARIANTS, SIZES["paper"], options.rounds))


if __name__ == "__main__":
    main()
