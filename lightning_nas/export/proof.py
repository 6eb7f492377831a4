"""Proves that an export computes what the model computes, before it is handed over."""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.errors import ExportError

CODE_TOLERANCE = 1e-6
ONNX_TOLERANCE = 1e-4
"""Largest difference of an output, relative to the largest output of the model."""

BATCH_SIZES = (2, 3)


def observe(model: Any, batches: Any) -> Any:
    """What a model puts out: in evaluation, then in training with the same seed, for each batch.

    The text of this function also runs in the clean interpreter, so it imports what it needs.

    Returns:
        `outputs`: the tensors of each check, and its buffers after training on them; `parts`: for each
        call of a part of the model, as it ends, its name and two sums over what it puts out.
    """
    import random

    import torch

    def tensors(output: Any) -> Any:
        leaves = torch.utils._pytree.tree_leaves(output)
        return [leaf.detach().clone() for leaf in leaves if isinstance(leaf, torch.Tensor)]

    parts: Any = []

    def note(name: Any) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            found = [tensor.double() for tensor in tensors(output) if not tensor.is_complex()]
            parts.append([name, *(s for t in found for s in (t.sum().item(), t.abs().sum().item()))])

        return hook

    outputs: Any = {}
    for mode in ("eval", "train"):
        model.train(mode == "train")
        for batch in batches:
            handles = []
            if not outputs:
                handles = [m.register_forward_hook(note(name)) for name, m in model.named_modules() if name]
            torch.manual_seed(0)
            random.seed(0)
            with torch.no_grad():
                outputs[f"{mode}, batch of {len(batch[0])}"] = tensors(model(*batch))
            for handle in handles:
                handle.remove()
    outputs["buffers after training"] = tensors([buffer for _, buffer in model.named_buffers()])
    return {"outputs": outputs, "parts": parts}


_SCRIPT = """
import importlib.util, json, sys, torch
from typing import Any
torch.set_num_threads({threads})
{observe}
spec = importlib.util.spec_from_file_location("exported", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["exported"] = module
spec.loader.exec_module(module)
model = getattr(module, sys.argv[3])()
given = torch.load(sys.argv[2] + "/given.pt", weights_only=True)
model.load_state_dict(given["state"])
parameters = sum(p.numel() for p in model.parameters())
torch.save(observe(model, given["batches"]), sys.argv[2] + "/found.pt")
if "lightning_nas" in sys.modules:
    raise ImportError("the file imports lightning_nas")
print(json.dumps({{"parameters": parameters}}))
"""


def warmed_up(model: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """A copy of `model` on the CPU whose batch-norm statistics are those of a few batches.

    A fresh network puts out next to nothing in evaluation, which would hide most differences.
    """
    proof = copy.deepcopy(model).cpu().train()
    # A few steps of the usual momentum: statistics taken from so small batches alone would leave deep
    # networks so ill-conditioned that rounding in float32 reaches 5e-4 of the output (DARTS, 20 layers).
    sizes = batches_of(inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        for batch in (*sizes, sizes[0]):
            run(proof, batch)
    return proof


def run(model: nn.Module, batch: Sequence[Tensor]) -> Any:
    """What `model` puts out for a batch.

    Raises:
        ExportError: if it raises; it must run on the example inputs, with either number of rows.
    """
    try:
        return model(*batch)
    except Exception as error:
        raise ExportError(
            f"{type(model).__name__} itself does not run on {len(batch[0])} rows of the example inputs, so nothing can "
            f"be compared: {type(error).__name__}: {error}"
        ) from error


def batches_of(inputs: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Batches of two sizes made of the example inputs; rows that repeat are changed a little.

    Raises:
        ExportError: if an input has no rows.
    """
    if not inputs or any(each.ndim == 0 or len(each) == 0 for each in inputs):
        raise ExportError(
            "Example inputs must be a tuple of tensors whose first axis is the batch, with a row at least."
        )
    rows = max(BATCH_SIZES)
    generator = torch.Generator().manual_seed(0)
    grown = []
    for each in inputs:
        tensor = each.detach().cpu()
        repeated = tensor.repeat(-(-rows // len(tensor)), *[1] * (tensor.ndim - 1))[:rows]
        if len(tensor) < rows and tensor.is_floating_point():
            repeated = repeated + 0.1 * torch.randn(repeated.shape, generator=generator, dtype=tensor.dtype)
        grown.append(repeated)
    return [tuple(each[:size] for each in grown) for size in BATCH_SIZES]


def prove_code(path: Path, class_name: str, model: nn.Module, inputs: Sequence[Tensor]) -> dict[str, Any]:
    """Runs a written file in a clean interpreter and compares it with the model.

    Args:
        path: the file.
        class_name: the class in it.
        model: the model of which it is the source.
        inputs: example inputs, the batch first.

    Returns:
        What the manifest says of it: parameters, and the largest relative difference of each check.

    Raises:
        ExportError: if the file does not run, needs this package, or computes something else.
    """
    proof = warmed_up(model, inputs)
    batches = batches_of(inputs)
    state = copy.deepcopy(proof.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"state": state, "batches": batches}, f"{folder}/given.pt")
        script = _SCRIPT.format(threads=torch.get_num_threads(), observe=inspect.getsource(observe))
        command = [sys.executable, "-I", "-B", "-c", script, str(path.resolve()), folder, class_name]
        # No path of ours and no user site: what the file needs it must import from torch or Python.
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=_clean_environment())
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ExportError(
                f"The exported code does not run on its own: {lines[-1].strip()}"
            ) from RuntimeError(f"In a clean interpreter:\n{done.stderr}")
        found = torch.load(f"{folder}/found.pt", weights_only=True)
        parameters = json.loads(done.stdout.splitlines()[-1])["parameters"]
    expected_parameters = sum(p.numel() for p in proof.parameters())
    if parameters != expected_parameters:
        raise ExportError(
            f"The exported code has {parameters:,} parameters, but the model has {expected_parameters:,}."
        )
    state_of_random = random.getstate()
    with torch.random.fork_rng(devices=()):
        expected = observe(proof, batches)
    random.setstate(state_of_random)
    try:
        differences = compare(expected["outputs"], found["outputs"], CODE_TOLERANCE, "code")
    except ExportError as error:
        raise ExportError(f"{error}{_first_difference(proof, expected['parts'], found['parts'])}") from None
    return {"parameters": parameters, "tolerance": CODE_TOLERANCE, "differences": differences}


def _first_difference(model: nn.Module, expected: Sequence[Any], found: Sequence[Any]) -> str:
    """A sentence that names the first part of a model that puts out something else; empty if none does."""
    for (name, *sums), (other_name, *other_sums) in zip(expected, found):
        is_close = len(sums) == len(other_sums) and all(
            math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-5 * max(map(abs, sums)))
            for a, b in zip(sums, other_sums)
        )
        if name != other_name or not is_close:
            kind = type(model.get_submodule(name)).__name__
            return f" The first part that differs is {name!r}, a {kind}."
    return ""


def compare(
    expected: Mapping[str, Sequence[Tensor]],
    found: Mapping[str, Sequence[Tensor]],
    tolerance: float,
    what: str,
) -> dict[str, float]:
    """The largest difference of each check, relative to the largest output.

    Raises:
        ExportError: if outputs differ in number, shape, or by more than `tolerance`, or if nothing finite is
            put out.
    """
    differences = {}
    for check, outputs in expected.items():
        if "batch" in check and not any(each.isfinite().any() for each in outputs):
            raise ExportError(
                f"In {check} the model puts out no tensor with a finite number in it, so nothing can be compared; give "
                "other inputs or weights."
            )
    for check, outputs in expected.items():
        others = found[check]
        if [tuple(o.shape) for o in outputs] != [tuple(o.shape) for o in others]:
            raise ExportError(
                f"The exported {what} puts out shapes {[tuple(o.shape) for o in others]} in {check}, but the model "
                f"{[tuple(o.shape) for o in outputs]}."
            )
        difference = max((_relative(a, b) for a, b in zip(outputs, others)), default=0.0)
        if difference > tolerance:
            raise ExportError(
                f"The exported {what} does not compute what the model computes: in {check} they differ by "
                f"{difference:.1e} of the largest output, where {tolerance:.0e} is allowed."
            )
        differences[check] = difference
    return differences


def _relative(expected: Tensor, found: Tensor) -> float:
    """The largest difference relative to the largest finite number expected; NaN and infinities must agree."""
    wide = torch.complex128 if expected.is_complex() or found.is_complex() else torch.float64
    expected, found = expected.to(wide), found.to(wide)
    is_finite = expected.isfinite()
    if not torch.equal(expected[~is_finite].nan_to_num(), found[~is_finite].nan_to_num()):
        return math.inf
    if not found[is_finite].isfinite().all() or not torch.equal(expected.isnan(), found.isnan()):
        return math.inf
    if not is_finite.any():
        return 0.0
    scale = expected[is_finite].abs().max().item()
    return float((expected - found)[is_finite].abs().max().item() / (scale or 1.0))


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
