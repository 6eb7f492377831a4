"""Claim: on an H200 a search step at the paper's size takes 20 ms with CUDA graphs, so that 50 epochs take 7 minutes.

Compares, in one process, round by round (A B C A B C ...), one first-order search step (alphas, then weights) at batch
64, C=16, L=8 of

- the port (`port.py`) and the plain supernet in float32 without TF32;
- the fast supernet in float32, with TF32, and in bfloat16;
- the same with CUDA graphs (`graphed.py`);
- the last two in bfloat16 with compiled cells. They come at the end, as compiling takes minutes.

For each: the seconds of every block of steps, the median time of a step, the peak memory of the first steps (allocated
by them, capture included), the work operations that one step dispatches, the share of the time that the memory traffic
alone would take on an H200, and how far the alphas' gradients lie from the plain supernet's in float32, at the start
and after the first block of steps. Batches are random and lie on the device; what augmentation costs is measured apart.

Writes `gpu.json` beside itself after each part, so that a run that is cut off leaves what it has. A variant that fails
is noted there, and the others go on.

    python gpu.py
    python gpu.py --device cpu --batch 4 --channels 4 --layers 3 --steps 1 --rounds 2 --output FILE

The second is a dry run: on a CPU nothing is captured, and cells are compiled by a backend that changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import port
import torch
from counting import WorkOperations

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import data
from graphed import Search

from lightning_nas.hub import DARTS_OPERATIONS, DartsSpace
from lightning_nas.oneshot import relax

Batch = tuple[torch.Tensor, torch.Tensor]

FLOOR_MS = {"float32": 5.0, "bfloat16": 2.6}
"""What the traffic of a step at batch 64, C=16, L=8 takes on an H200, by the type of the activations."""


@dataclass(frozen=True)
class Variant:
    """A way to take a step on the supernet."""

    fast: bool = True
    tf32: bool = False
    bf16: bool = False
    graphs: bool = False
    compiled: bool = False


FIRST = {
    "port": None,
    "plain": Variant(fast=False),
    "fast": Variant(),
    "fast, TF32": Variant(tf32=True),
    "fast, bf16": Variant(bf16=True),
    "fast, graphs": Variant(graphs=True),
    "fast, TF32, graphs": Variant(tf32=True, graphs=True),
    "fast, bf16, graphs": Variant(bf16=True, graphs=True),
}
COMPILED = {
    "fast, bf16, compiled": Variant(bf16=True, compiled=True),
    "fast, bf16, compiled, graphs": Variant(bf16=True, compiled=True, graphs=True),
}


@contextlib.contextmanager
def tf32(is_on: bool) -> Iterator[None]:
    # Not by `fp32_precision`: torch.compile of torch 2.11 cannot work with it (pytorch#166387).
    parts = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [part.allow_tf32 for part in parts]
    for part in parts:
        part.allow_tf32 = is_on
    try:
        yield
    finally:
        for part, value in zip(parts, before):
            part.allow_tf32 = value


class Contender:
    """Takes steps as one variant does, under its settings."""

    def __init__(self, variant: Variant | None, options: argparse.Namespace, example: Batch) -> None:
        self.variant = variant or Variant()
        device = torch.device(options.device)
        torch.manual_seed(0)
        if variant is None:
            net = port.Network(options.channels, options.layers).to(device)
            net.alphas = [alpha.detach().to(device).requires_grad_() for alpha in net.alphas]
            self.search: Any = port.Search(net)
            return
        space = DartsSpace(
            options.channels, options.layers, operations=("none", *DARTS_OPERATIONS), search=True
        )
        supernet = relax(space, variant.fast)
        self.alphas = {
            label: (1e-3 * torch.randn(shape)).to(device).requires_grad_()
            for label, shape in sorted(supernet.shapes.items())
        }
        self.net = supernet.root.to(device)
        if variant.compiled:
            torch._dynamo.config.recompile_limit = 4 * options.layers
            for cell in self.net.cells:
                cell.compile(backend=options.backend)
        fused = device.type == "cuda"
        leaves = list(self.alphas.values())
        with tf32(variant.tf32):
            self.search = Search(
                supernet,
                leaves,
                lambda: supernet.activate(self.alphas),
                torch.optim.SGD(self.net.parameters(), 0.025, momentum=0.9, weight_decay=3e-4, fused=fused),
                torch.optim.Adam(leaves, 3e-4, (0.5, 0.999), weight_decay=1e-3, fused=fused),
                example,
                dtype=torch.bfloat16 if variant.bf16 else None,
                captures=variant.graphs,
            )

    def step(self, train: Batch, search: Batch) -> None:
        with tf32(self.variant.tf32):
            self.search.step(train, search)

    def alpha_gradients(self, batch: Batch) -> torch.Tensor:
        with tf32(self.variant.tf32):
            self.search.take_alpha_gradients(batch)
        return torch.cat([alpha.grad.flatten() for alpha in self.alphas.values()]).double().cpu()

    def take_over(self, other: Contender) -> None:
        """Gets the weights and alphas of another; in place, as a captured graph needs them."""
        self.net.load_state_dict(other.net.state_dict())
        with torch.no_grad():
            for label, alpha in self.alphas.items():
                alpha.copy_(other.alphas[label])


def batches(options: argparse.Namespace, n: int = 8) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(options.batch, 3, 32, 32, generator=generator).to(options.device),
            torch.randint(10, (options.batch,), generator=generator).to(options.device),
        )
        for _ in range(n)
    ]


def wait(options: argparse.Namespace) -> None:
    if options.device != "cpu":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[int], Any], n: int, options: argparse.Namespace) -> float:
    """Of one call, on average over n."""
    wait(options)
    start = time.perf_counter()
    for i in range(n):
        work(i)
    wait(options)
    return (time.perf_counter() - start) / n


def begin(
    name: str, variant: Variant | None, options: argparse.Namespace, given: list[Batch]
) -> tuple[Contender | None, dict[str, Any]]:
    """Makes a contender and takes its first steps; what they cost, or why it failed."""
    uses_gpu = options.device != "cpu"
    start, before = time.perf_counter(), 0
    if uses_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    try:
        contender = Contender(variant, options, given[0])
        for _ in range(2):
            contender.step(given[0], given[1])
        wait(options)
    except Exception as error:
        traceback.print_exc()
        return None, {"error": f"{type(error).__name__}: {error}"[:500]}
    found: dict[str, Any] = {"seconds to begin": round(time.perf_counter() - start, 2)}
    if uses_gpu:
        found["peak MB"] = round((torch.cuda.max_memory_allocated() - before) / 2**20)
    if not contender.variant.compiled:  # counting would undo the compilation
        with WorkOperations() as counted:
            contender.step(given[0], given[1])
        found["work operations"] = counted.total
    print(name, json.dumps(found), flush=True)
    return contender, found


def drift(contenders: dict[str, Contender], given: list[Batch]) -> dict[str, dict[str, float]]:
    """Of the alphas' gradients at the same weights, from the plain supernet's, over some batches."""
    supernets = {name: each for name, each in contenders.items() if name != "port"}
    first = supernets["plain"]
    for each in supernets.values():
        each.take_over(first)
    exact = torch.stack([first.alpha_gradients(batch) for batch in given])
    found = {}
    for name, each in supernets.items():
        each.take_over(first)  # running statistics move with every batch
        ours = torch.stack([each.alpha_gradients(batch) for batch in given])
        cosines = torch.nn.functional.cosine_similarity(ours, exact)
        error = (ours - exact).norm() / exact.norm()
        found[name] = {"cosine": float(cosines.mean()), "relative error": float(error)}
    return found


def compare(
    variants: dict[str, Variant | None], options: argparse.Namespace, rounds: int
) -> dict[str, dict[str, Any]]:
    """Figures of each variant; all take turns."""
    given = batches(options)
    contenders: dict[str, Contender] = {}
    found: dict[str, dict[str, Any]] = {}
    for name, variant in variants.items():
        contender, found[name] = begin(name, variant, options, given)
        if contender is not None:
            contenders[name] = contender
    blocks: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        if "plain" in contenders and number < 2:
            when = "gradients at the start" if number == 0 else "gradients after a block"
            for name, value in drift(contenders, given[:4]).items():
                found[name][when] = value
        for name, each in contenders.items():

            def step(i: int, each: Contender = each) -> None:
                each.step(given[2 * i % len(given)], given[(2 * i + 1) % len(given)])

            blocks[name].append(seconds_of(step, options.steps, options))
    is_papers = (options.batch, options.channels, options.layers) == (64, 16, 8)
    for name, seconds in blocks.items():
        step_ms = 1e3 * median(seconds)
        found[name] |= {"step ms": round(step_ms, 3), "blocks ms": [round(1e3 * s, 3) for s in seconds]}
        if is_papers and options.device != "cpu":
            floor = FLOOR_MS["bfloat16" if contenders[name].variant.bf16 else "float32"]
            found[name]["share of the floor of an H200"] = round(floor / step_ms, 3)
        if "port" in blocks:
            found[name]["times faster than the port"] = round(median(blocks["port"]) / median(seconds), 2)
    return found


def augmentation(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds for a batch of images that lie on the device, and images a second."""
    rng = np.random.default_rng(0)
    n = max(5000, 2 * options.batch)
    images = data.Images(rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), rng.integers(10, size=n))
    pool = data.Pool.of(images, torch.device(options.device))
    stream = iter(data.Batches(pool, np.arange(n), options.batch, augment=True, drop_last=True))
    next(stream)
    steps = min(50, n // options.batch - 1)
    seconds = seconds_of(lambda _: next(stream), steps, options)
    return {"ms": round(1e3 * seconds, 3), "images a second": round(options.batch / seconds)}


def table(found: dict[str, dict[str, Any]]) -> str:
    lines = ["| | step, ms | faster | peak, MB | work operations | of the floor | cosine |", "|" + "---|" * 7]
    for name, row in found.items():
        if "error" in row:
            lines.append(f"| {name} | failed: {row['error'][:60]} | | | | | |")
            continue
        keys = ("step ms", "times faster than the port", "peak MB", "work operations",
                "share of the floor of an H200")  # fmt: skip
        last = row.get("gradients after a block", row.get("gradients at the start", {}))
        cosine = last.get("cosine")
        cells = [str(row.get(key, "")) for key in keys] + ["" if cosine is None else f"{cosine:.4f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="in a block")
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each variant")
    parser.add_argument("--backend", help="of torch.compile; inductor on a GPU")
    parser.add_argument("--skip-compiled", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --device cpu makes a dry run")
    options.backend = options.backend or ("eager" if options.device == "cpu" else "inductor")
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor")
    torch.backends.cudnn.benchmark = True  # all batches have one shape
    results: dict[str, Any] = {
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": options.device if options.device == "cpu" else torch.cuda.get_device_name(),
        "settings": {k: v for k, v in vars(options).items() if k not in ("output", "device")},
    }

    def keep(name: str, value: Any) -> None:
        results[name] = value
        options.output.write_text(json.dumps(results, indent=1) + "\n")

    keep("augmentation", augmentation(options))
    keep("steps", compare(FIRST, options, options.rounds))
    print(table(results["steps"]), flush=True)
    if not options.skip_compiled:
        anchors = {name: FIRST[name] for name in ("plain", "fast, bf16", "fast, bf16, graphs")}
        keep("steps, compiled", compare({**anchors, **COMPILED}, options, max(options.rounds // 2, 1)))
        print(table(results["steps, compiled"]), flush=True)
    print("augmentation", json.dumps(results["augmentation"]))


if __name__ == "__main__":
    main()
