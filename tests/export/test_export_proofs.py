"""Proofs that an export is equal see what is wrong, and ONNX says what it cannot hold."""

from __future__ import annotations

import copy
import textwrap
from pathlib import Path

import pytest
import torch
from exported_spaces import X, made

from lightning_nas import errors, hub
from lightning_nas.export.onnx_file import export_onnx
from lightning_nas.export.proof import compare, prove_code, warmed_up


def test_a_difference_behind_nan_is_seen_and_no_output_is_no_proof() -> None:
    one, nan, infinite = torch.ones(2), torch.tensor([1.0, torch.nan]), torch.tensor([1.0, -torch.inf])
    check = "eval, batch of 2"
    assert compare({check: [nan, infinite]}, {check: [nan, infinite]}, 1e-6, "code") == {check: 0.0}
    for expected, found in ([one, nan], [nan, one], [infinite, one], [one, infinite], [infinite, -infinite]):
        with pytest.raises(errors.ExportError, match="does not compute what the model computes"):
            compare({check: [one, expected]}, {check: [one, found]}, 1e-6, "code")
    with pytest.raises(errors.ExportError, match="nothing can be compared"):
        compare({check: []}, {check: []}, 1e-6, "code")


@pytest.mark.slow
def test_a_proof_that_fails_names_the_first_part_that_differs(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    text = "from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self):\n        super().__init__({})\n"
    path.write_text(text.format("nn.Conv2d(3, 3, 3, padding=1), nn.Sequential(nn.ReLU(), nn.GELU('tanh'))"))
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Sequential(torch.nn.ReLU(), torch.nn.GELU())
    )
    with pytest.raises(errors.ExportError, match=r"The first part that differs is '1\.1', a GELU\."):
        prove_code(path, "Net", model, (X,))


@pytest.mark.slow
def test_a_proof_sees_a_wrong_momentum_and_repeats_the_draws_of_python(tmp_path: Path) -> None:
    text = textwrap.dedent(
        """\
        import random
        from torch import nn
        class Net(nn.Module):
            def __init__(self, momentum=0.1):
                super().__init__()
                self.norm = nn.BatchNorm2d(3, momentum=momentum)
            def forward(self, x):
                return self.norm(x) * (random.random() if self.training else 1)
        """
    )
    path = tmp_path / "net.py"
    path.write_text(text)
    model = made(text)
    assert max(prove_code(path, "Net", model, (X,))["differences"].values()) == 0
    path.write_text(text.replace("momentum=0.1", "momentum=0.2"))
    with pytest.raises(errors.ExportError, match="in buffers after training"):
        prove_code(path, "Net", model, (X,))


class Fixed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([row * 2 for row in x])


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Broken(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(3, -1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Fixed(), "does not run with 3 rows"),
        (Branching(), r"It happened in '1', a Branching \(.*test_export_proofs.py:\d+\)"),
        (Broken(), "does not run on 2 rows of the example inputs.*RuntimeError"),
    ],
)
def test_what_onnx_cannot_hold_is_named(tmp_path: Path, capfd, part: torch.nn.Module, message: str) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), part).eval()
    with pytest.raises(errors.ExportError, match=message):
        export_onnx(tmp_path / "net.onnx", model, (torch.randn(3, 5),), is_fresh=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_input_that_nothing_uses_is_no_trouble_for_onnx(tmp_path: Path) -> None:
    class Second(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return y * 2

    inputs = (torch.randn(2, 3), torch.randn(2, 4))
    figures = export_onnx(tmp_path / "net.onnx", Second().eval(), inputs, is_fresh=True)
    assert max(figures["differences"].values()) <= 1e-4


@pytest.mark.slow
def test_a_deep_network_is_proved_far_above_rounding_and_far_below_a_wrong_dilation() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 32, 32)
    model = warmed_up(hub.DartsSpace(8, 20).build(hub.DARTS_V2.sample()), (x,)).eval()
    wrong = copy.deepcopy(model)
    for module in wrong.modules():
        if isinstance(module, torch.nn.Conv2d) and module.dilation == (2, 2):
            module.dilation, module.padding = (1, 1), tuple(k // 2 for k in module.kernel_size)
    with torch.no_grad():
        exact, rounded, other = copy.deepcopy(model).double()(x.double()), model(x), wrong(x)
    scale = exact.abs().max()
    assert (rounded - exact).abs().max() / scale < 1e-5
    assert (other - exact).abs().max() / scale > 1e-3
