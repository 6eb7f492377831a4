"""Claim: sampling and building the quick start's Net cost below 2 ms each, beside torch's own work.

A: the plain constructor calls of torch that the sample amounts to. B: `net.build(sample)`. Both on the
CPU, where torch draws 0.6 to 2.4 million random weights, and on the meta device, where it draws
none, so that only our work and the modules' remain. A B A B, medians; the spread is that of B.

    python benchmarks/cost/build.py [--runs 200] [--output benchmarks/cost/build.json]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import parser, quartiles, write
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "mnist"))
from net import DepthwiseSeparableConv, Net


def plain(sample: dict) -> list[nn.Module]:
    """What a person would write for `sample`; both candidates are made, as the space's code makes them."""
    feature = sample["feature"]
    candidates = [nn.Conv2d(32, 64, 3, 1), DepthwiseSeparableConv(32, 64)]
    return [
        nn.Conv2d(1, 32, 3, 1),
        candidates[sample["conv2"]],
        nn.Dropout(sample["dropout"]),
        nn.Dropout(0.5),
        nn.Linear(9216, feature),
        nn.Linear(feature, 10),
    ]


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    options = parser(__file__, __doc__, runs=200).parse_args()
    torch.set_num_threads(1)
    net, rng = Net(), np.random.default_rng(0)
    space = net.search_space
    results = {
        "sample_ms": statistics.median(milliseconds(lambda: space.sample(rng)) for _ in range(options.runs))
    }
    for device in ("cpu", "meta"):
        times: dict[str, list[float]] = {"plain": [], "build": []}
        for _ in range(options.runs):
            sample = space.sample(rng)
            with torch.device(device):
                times["plain"].append(milliseconds(lambda sample=sample: plain(sample)))
                times["build"].append(milliseconds(lambda sample=sample: net.build(sample)))
        results |= {f"{kind}_{device}_ms": statistics.median(found) for kind, found in times.items()}
        results[f"build_{device}_ms_quartiles"] = quartiles(times["build"], 4)
        results[f"overhead_{device}_ms"] = results[f"build_{device}_ms"] - results[f"plain_{device}_ms"]
    results |= {
        "runs": options.runs,
        "torch": torch.__version__,
    }
    write(options.output, results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
