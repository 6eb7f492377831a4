from __future__ import annotations

import json

import onnxruntime
import pytest
import torch
from exported_spaces import Loops, Straight

import lightning_nas.nn as nn
from lightning_nas import errors, model_wrapper
from lightning_nas.export import export_model
from lightning_nas.export.onnx_file import prove_onnx, write_onnx

pytestmark = pytest.mark.slow
X = (torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def test_an_onnx_file_runs_with_any_batch_and_has_its_figures(tmp_path) -> None:
    net = Loops()
    path = export_model(net, net.sample(0), "onnx", directory=tmp_path, inputs=X)
    session = onnxruntime.InferenceSession(path)
    for rows in (1, 7):
        assert session.run(None, {"input": torch.zeros(rows, 3, 8, 8).numpy()})[0].shape[0] == rows
    figures = json.loads((tmp_path / "manifest.json").read_text())["onnx"]
    assert max(figures["differences"].values()) <= 1e-4
    assert max(figures["differences_with_filled_statistics"].values()) <= 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "manifest.json",
        "net.onnx",
        "sample.json",
        "weights.pt",
    ]


def test_the_file_of_another_model_is_refused(tmp_path) -> None:
    net = Straight()
    sample = net.sample(0)
    write_onnx(tmp_path / "net.onnx", net.build(sample).eval(), X)
    with pytest.raises(errors.ExportError, match="does not compute what the model computes"):
        prove_onnx(tmp_path / "net.onnx", net.build(sample).eval(), X)


def test_an_operation_without_counterpart_is_named(tmp_path) -> None:
    @model_wrapper
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = nn.LayerChoice([nn.ReLU(), nn.GELU()], label="op")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(self.op(x).flatten(2))

    with pytest.raises(errors.ExportError, match="Odd to ONNX.*svd"):
        export_model(Odd(), {"op": 0}, "onnx", directory=tmp_path, inputs=X)
    assert not list(tmp_path.iterdir())
