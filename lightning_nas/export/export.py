"""`export_model`: a sample, with or without trained weights, as something to take away."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_nas.errors import ExportError
from lightning_nas.mutables import Blueprint
from lightning_nas.mutables import blueprint as blueprint_of

Formatter = Literal["dict", "code", "onnx", "instance"]

MANIFEST = "manifest.json"


def export_model(
    net: nn.Module | Blueprint,
    sample: Mapping[str, Any],
    formatter: Formatter = "dict",
    *,
    directory: str | Path | None = None,
    weights: Mapping[str, Tensor] | str | Path | None = None,
    inputs: Sequence[Tensor] | str | Path | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Any:
    """Hands over the model of a sample, once it is proved to compute what the model computes.

    Args:
        net: the model space, or its blueprint.
        sample: which model of it.
        formatter: "dict": the sample; "instance": the plain module; "code": `net.py`, a file that needs
            torch alone; "onnx": `net.onnx`, with a batch axis of any size.
        directory: where "code" and "onnx" write; the files are `net.py` or `net.onnx`, `weights.pt`,
            `sample.json`, and `manifest.json` with the figures of the proof.
        weights: a `state_dict` of the model, or a file that holds one; fresh weights if None.
        inputs: example inputs, a tuple of tensors whose first axis is the batch, or a file that
            holds one; "code" and "onnx" need them for the proof.
        metrics: written to the manifest.

    Returns:
        The sample as a dict, the module, or the path of the file.

    Raises:
        SampleError: if `sample` does not fit the space.
        ExportError: if the model cannot be exported (the message says why), or the export computes
            something else. Nothing is left in `directory` then.
        ValueError: for another formatter, or one that writes files without a directory.
    """
    blueprint = net if isinstance(net, Blueprint) else blueprint_of(net)
    if formatter not in ("dict", "code", "onnx", "instance"):
        raise ValueError(f"`formatter` must be 'dict', 'code', 'onnx' or 'instance', but got {formatter!r}.")
    if formatter == "dict":
        return blueprint.space.check(_in_our_form(blueprint, sample))
    model = blueprint.build(sample)
    if weights is not None:
        _load(model, weights)
    if formatter == "instance":
        return model
    if directory is None:
        raise ValueError(f"`directory` is needed to write the files of formatter={formatter!r}.")
    examples = _inputs(inputs)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    sample = blueprint.space.check(_in_our_form(blueprint, sample))
    write = _code if formatter == "code" else _onnx
    name = "net.py" if formatter == "code" else "net.onnx"
    figures = _drafted(folder / name, partial(write, blueprint, sample, model, examples, weights is None))
    torch.save(model.state_dict(), folder / "weights.pt")
    (folder / "sample.json").write_text(json.dumps(sample, indent=2) + "\n")
    _note(folder / MANIFEST, blueprint, sample, metrics, formatter, figures)
    return folder / name


def _in_our_form(blueprint: Blueprint, sample: Mapping[str, Any]) -> dict[str, Any]:
    from lightning_nas.mutables.blueprint import normalised

    return normalised(blueprint.space, sample)


def _load(model: nn.Module, weights: Mapping[str, Tensor] | str | Path) -> None:
    state = weights
    if isinstance(weights, (str, Path)):
        state = torch.load(weights, map_location="cpu", weights_only=True)
    try:
        model.load_state_dict(state)  # type: ignore[arg-type]
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ExportError(
            f"The weights are not those of this model: {' '.join(map(str.strip, lines[1:3]))}"
        ) from None


def _inputs(inputs: Sequence[Tensor] | str | Path | None) -> tuple[Tensor, ...]:
    if inputs is None:
        raise ExportError(
            "Example inputs are needed to prove that an export computes what the model computes; give inputs=(x,), "
            "a tuple of tensors whose first axis is the batch."
        )
    found = (
        torch.load(inputs, map_location="cpu", weights_only=True)
        if isinstance(inputs, (str, Path))
        else inputs
    )
    return (found,) if isinstance(found, Tensor) else tuple(found)


def _code(
    blueprint: Blueprint,
    sample: Mapping[str, Any],
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    is_fresh: bool,
    draft: Path,
) -> dict[str, Any]:
    from lightning_nas.export.code import source_of
    from lightning_nas.export.proof import prove_code

    draft.write_text(source_of(blueprint, sample))
    return prove_code(draft, blueprint.cls.__name__, model, inputs)


def _onnx(
    blueprint: Blueprint,
    sample: Mapping[str, Any],
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    is_fresh: bool,
    draft: Path,
) -> dict[str, Any]:
    from lightning_nas.export.onnx_file import export_onnx

    return export_onnx(draft, model.cpu(), inputs, is_fresh=is_fresh)


def _drafted(path: Path, write: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Lets `write` make a draft, and puts it in place once it is proved."""
    draft = path.with_name(f".draft-{path.name}")
    try:
        figures = write(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return figures


def _note(
    path: Path,
    blueprint: Blueprint,
    sample: Mapping[str, Any],
    metrics: Mapping[str, float] | None,
    formatter: str,
    figures: dict[str, Any],
) -> None:
    """Writes the figures of a proof to the manifest, beside those of the other formats of the same sample."""
    manifest: dict[str, Any] = {}
    if path.exists():
        manifest = json.loads(path.read_text())
        if manifest.get("sample") != json.loads(json.dumps(sample)):
            manifest = {}
    manifest |= {
        "class": blueprint.cls.__name__,
        "sample": dict(sample),
        "versions": {
            "lightning_nas": version("lightning-nas"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        formatter: figures,
    }
    if metrics is not None:
        manifest["metrics"] = dict(metrics)
    path.write_text(json.dumps(manifest, indent=2) + "\n")
