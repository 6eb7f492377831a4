"""Claim: the 15,625 networks of NAS-Bench-201 are 5,425 architectures, found in under 20 s on one core.

Each network (16 channels, 5 cells per stage) gets its `graph_key`, as `Dedup(key="graph")` asks for it.
Checked against the table: networks of one key differ by at most 0.9 points of `cifar10_test_200ep`
where the median of the class is at least 92, which is the noise of the seeds. For comparison, the
string rule of the paper finds 6,466: a node is its sorted terms joined by `+`; `none`, or a
predecessor `#`, gives `#`; a skip gives the predecessor's string; sums are never simplified. The time
is that of all keys with nothing prepared, tracing included, once per run; CPU seconds tell more than
wall seconds where other processes run.

    python benchmarks/nasbench201/duplicates.py [--data FILE] [--runs 3]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import platform
import statistics
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import torch

from lightning_nas.hub import NasBench201Space, from_arch_string

HERE = Path(__file__).resolve().parent


def paper_string(arch: str) -> str:
    """The text that tells cells apart in Dong and Yang, ICLR 2020, section 2.1."""
    states = ["0"]
    for node in arch.split("+"):
        terms = []
        for operation, source in (part.split("~") for part in node.strip("|").split("|")):
            state = states[int(source)]
            if operation == "none" or state == "#":
                terms.append("#")
            else:
                terms.append(state if operation == "skip_connect" else f"({state})@{operation}")
        states.append("+".join(sorted(terms)))
    return states[-1]


def timed_keys(archs: list[str]) -> tuple[list[str], float, float]:
    """The keys of all networks by a fresh model space, with wall and CPU seconds."""
    net = NasBench201Space()
    samples = [from_arch_string(arch) for arch in archs]
    wall, cpu = time.perf_counter(), time.process_time()
    keys = [net.graph_key(sample) for sample in samples]
    return keys, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared/data/nasbench201.csv.gz")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with gzip.open(options.data, "rt") as file:
        accuracy = {row["arch"]: float(row["cifar10_test_200ep"]) for row in csv.DictReader(file)}
    archs = list(accuracy)
    runs = [timed_keys(archs) for _ in range(options.runs)]
    classes = defaultdict(list)
    for arch, key in zip(archs, runs[0][0]):
        classes[key].append(accuracy[arch])
    spreads = [max(found) - min(found) for found in classes.values() if statistics.median(found) >= 92]
    results = {
        "networks": len(archs),
        "architectures": len(classes),
        "architectures_by_the_papers_rule": len(set(map(paper_string, archs))),
        "largest_spread_where_the_median_is_92_or_more": round(max(spreads), 3),
        "largest_spread": round(max(max(found) - min(found) for found in classes.values()), 3),
        "runs_agree": all(keys == runs[0][0] for keys, _, _ in runs),
        "wall_s": [round(wall, 2) for _, wall, _ in runs],
        "cpu_s": [round(cpu, 2) for _, _, cpu in runs],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, 1 thread",
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE
        ).stdout.strip(),
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
