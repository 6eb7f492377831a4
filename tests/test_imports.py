"""What loads when: each import is tried in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "lightning",
    "matplotlib",
    "networkx",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "optuna",
    "pytorch_lightning",
    "torch",
)
LIGHT_MODULES = (
    "lightning_nas",
    "lightning_nas.charts",
    "lightning_nas.cli",
    "lightning_nas.errors",
    "lightning_nas.experiment",
    "lightning_nas.importance",
    "lightning_nas.plots",
    "lightning_nas.report",
    "lightning_nas.space",
    "lightning_nas.stopping",
    "lightning_nas.strategies",
    "lightning_nas.trial",
)
LIMIT_S = 0.3
TRIES = 5

PROGRAM = """
import json, sys, time
start = time.process_time()
import {module}
print(json.dumps([time.process_time() - start, sorted(sys.modules)]))
"""


def imported(module: str) -> tuple[float, set[str]]:
    """Seconds on the processor that `import module` takes in a new interpreter, and every module it loads."""
    program = PROGRAM.format(module=module)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, names = json.loads(done.stdout)
    return seconds, set(names)


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_a_light_module_loads_no_heavy_library(module: str) -> None:
    _, names = imported(module)
    assert not names.intersection(HEAVY)


@pytest.mark.parametrize("module", ["lightning_nas", "lightning_nas.strategies"])
def test_importing_takes_less_than_0_3_seconds(module: str) -> None:
    # The machine may be busy with other work: the best of a few tries is the cost of the import.
    seconds = []
    for _ in range(TRIES):
        seconds.append(imported(module)[0])
        if seconds[-1] < LIMIT_S:
            return
    pytest.fail(f"`import {module}` took at least {min(seconds):.2f} s in {TRIES} tries.")


def test_a_name_loads_only_the_part_that_holds_it() -> None:
    program = "import sys, lightning_nas; lightning_nas.SearchSpace; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
