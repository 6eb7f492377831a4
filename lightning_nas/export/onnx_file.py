"""Writes a model as ONNX, checked by onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.errors import ExportError
from lightning_nas.export.proof import ONNX_TOLERANCE, batches_of, compare, run, warmed_up

_LARGEST_FILE = 1_500_000_000  # bytes of weights; protobuf ends at 2 GB


def write_onnx(path: Path, model: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Writes `model`, in evaluation mode, with a batch axis of any size.

    Args:
        path: the file.
        model: on the CPU.
        inputs: example inputs, the batch first.

    Raises:
        ExportError: if torch cannot convert it; the message names the operation.
    """
    batch = torch.export.Dim("batch")
    example = batches_of(inputs)[0]
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    with _quiet():
        try:
            torch.onnx.export(
                model.eval(),
                example,
                path,
                dynamo=True,
                input_names=_input_names(example),
                dynamic_shapes=tuple({0: batch} for _ in example),
                external_data=weights > _LARGEST_FILE,
                verbose=False,
            )
        except Exception as error:  # torch raises classes of its private modules
            raise ExportError(
                f"torch cannot convert {type(model).__name__} to ONNX: {reason_of(error)}{_place_of(error, model)}"
            ) from error


def _input_names(inputs: Sequence[Tensor]) -> list[str]:
    return ["input"] if len(inputs) == 1 else [f"input_{i}" for i in range(len(inputs))]


def prove_onnx(path: Path, model: nn.Module, inputs: Sequence[Tensor]) -> dict[str, Any]:
    """Compares the ONNX file of a model with the model, at two batch sizes.

    Args:
        path: the file of the very model given.
        model: on the CPU.
        inputs: example inputs, the batch first.

    Returns:
        What the manifest says of it: the largest relative difference of each check.

    Raises:
        ExportError: if onnxruntime cannot run the file, or it computes something else.
    """
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its private modules
        raise ExportError(
            f"onnxruntime cannot load the ONNX file of {type(model).__name__}: {error}"
        ) from error
    names = {each.name for each in session.get_inputs()}  # an input that nothing uses is not among them
    expected, found = {}, {}
    with torch.no_grad():
        for batch in batches_of(inputs):
            check = f"eval, batch of {len(batch[0])}"
            outputs = torch.utils._pytree.tree_leaves(run(model.eval(), batch))
            expected[check] = [output for output in outputs if isinstance(output, Tensor)]
            given = {n: t.numpy() for n, t in zip(_input_names(batch), batch) if n in names}
            try:
                made = session.run(None, given)
            except Exception as error:  # onnxruntime raises classes of its private modules
                raise ExportError(
                    f"The ONNX file of {type(model).__name__} does not run with {len(batch[0])} rows; its forward "
                    f"pass must not depend on that number: {_first_line(error)}"
                ) from error
            found[check] = [torch.from_numpy(output) for output in made]
    return {"tolerance": ONNX_TOLERANCE, "differences": compare(expected, found, ONNX_TOLERANCE, "ONNX file")}


def export_onnx(path: Path, model: nn.Module, inputs: Sequence[Tensor], *, is_fresh: bool) -> dict[str, Any]:
    """Writes the ONNX file of `model` and proves it.

    Args:
        path: the file.
        model: on the CPU.
        inputs: example inputs, the batch first.
        is_fresh: it was never trained. Fresh batch-norm statistics make outputs too small to tell
            models apart, so a copy with filled ones is converted and proved as well.

    Returns:
        What the manifest says of it.
    """
    with torch.no_grad():
        for batch in batches_of(inputs):
            run(model.eval(), batch)
    write_onnx(path, model, inputs)
    manifest = prove_onnx(path, model, inputs)
    if is_fresh and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        proof = warmed_up(model, inputs)
        proof_path = path.with_suffix(".proof.onnx")
        try:
            write_onnx(proof_path, proof, inputs)
            filled = prove_onnx(proof_path, proof, inputs)["differences"]
        finally:
            for leftover in path.parent.glob(f"{proof_path.name}*"):
                leftover.unlink()
        manifest["differences_with_filled_statistics"] = filled
    return manifest


def reason_of(error: BaseException) -> str:
    """One line on why torch could not convert a model, with the operation where torch names it."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    texts = [str(each) for each in chain]
    for text in texts:
        found = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text) or re.search(
            r"No decompositions registered for .*?([\w.:]+)", text
        )
        if found:
            return f"ONNX has no operation for {found.group(1)}."
    lines = [line.strip() for line in texts[-1].splitlines() if line.strip()] if texts else []
    kind = type(chain[-1]).__name__
    return f"{kind}: {lines[0]}" if lines else kind


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _place_of(error: BaseException, model: nn.Module) -> str:
    """The part of the model and the line whose forward pass torch was running; empty if torch was past that."""
    paths = {id(module): path for path, module in model.named_modules()}
    current: BaseException | None = error
    while current is not None:
        place = ""
        for frame, line in traceback.walk_tb(current.__traceback__):
            owner = frame.f_locals.get((*frame.f_code.co_varnames, "")[0])
            is_theirs = not str(frame.f_globals.get("__name__")).startswith("torch.")
            if id(owner) in paths and is_theirs:
                part = (
                    f"{paths[id(owner)]!r}, a {type(owner).__name__}"
                    if paths[id(owner)]
                    else type(owner).__name__
                )
                place = f" It happened in {part} ({frame.f_code.co_filename}:{line})."
        if place:
            return place
        current = current.__cause__ or current.__context__
    return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's progress and its warnings about itself from the user."""
    names = ("torch.onnx", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    text = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
