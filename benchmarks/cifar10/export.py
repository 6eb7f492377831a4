"""Writes a retrained network as plain-torch code and as ONNX, each proved to compute what the network computes.

    python benchmarks/cifar10/export.py runs/retrained

`best/` then also holds `net.py`, `net.onnx` and `manifest.json` with the figures of the proof.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_nas.export import export_model
from lightning_nas.hub import DartsSpace


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Exports; returns the manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder that retrain.py wrote")
    parser.add_argument("--formats", nargs="+", default=["code", "onnx"], choices=["code", "onnx"])
    options = parser.parse_args(arguments)
    best = options.run / "best"
    if not (best / "space.json").exists():
        parser.error(f"there is no {best}/space.json; run retrain.py first")
    shape, sample, metrics = (
        json.loads((best / f"{name}.json").read_text()) for name in ("space", "sample", "metrics")
    )
    space = DartsSpace(**shape)
    for formatter in options.formats:
        path = export_model(
            space,
            sample,
            formatter,
            directory=best,
            weights=best / "weights.pt",
            inputs=best / "inputs.pt",
            metrics=metrics,
        )
        print(path)
    manifest = json.loads((best / "manifest.json").read_text())
    for formatter in options.formats:
        print(f"{formatter}: {json.dumps(manifest[formatter])}")
    return dict(manifest)


if __name__ == "__main__":
    main()
