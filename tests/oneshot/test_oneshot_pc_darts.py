"""PC-DARTS: operations on a part of the channels, and weights of the edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from small_search import Lit, search
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import lightning_nas.nn as nn
from lightning_nas import Darts, SearchError
from lightning_nas.hub import DARTS_OPERATIONS, DartsSpace
from lightning_nas.hub.operations import PartialChannels
from lightning_nas.oneshot import PCDarts, relax
from lightning_nas.oneshot.pc_darts import edge_weights

OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


def space(parts: int = 2, **options: Any) -> DartsSpace:
    return DartsSpace(
        **{"channels": 4, "layers": 3, "nodes": 2, "num_classes": 4, "operations": OPERATIONS, **options},
        search=True,
        partial_channels=parts,
    )


def images(n: int = 16) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, 8, 8, generator=generator)
    return DataLoader(TensorDataset(x, torch.arange(n) % 4), 8, shuffle=True)


def searched(method: Any, net: Any = None, **options: Any) -> Any:
    """Searches a tiny cell space; two epochs of one step."""
    module = (lambda: Lit(space())) if net is None else net
    settings = {"data": images(), "max_epochs": 2, "limit_val_batches": 0, **options}
    return search(method, module, **settings).lightning_module


def test_channels_are_shuffled_as_the_paper_does() -> None:
    x = torch.arange(8.0).view(1, 8, 1, 1)
    assert PartialChannels(nn.Identity(), 4)(x).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_an_operation_sees_its_part_and_the_rest_is_pooled() -> None:
    x = torch.randn(2, 8, 4, 4)
    halved = PartialChannels(nn.AvgPool2d(2), 4, stride=2)
    output = halved(x)
    assert output.shape == (2, 8, 2, 2)
    parts = output.view(2, 2, 4, 2, 2).transpose(1, 2).reshape(2, 8, 2, 2)  # the shuffle undone
    torch.testing.assert_close(parts[:, :2], nn.functional.avg_pool2d(x[:, :2], 2))
    torch.testing.assert_close(parts[:, 2:], nn.functional.max_pool2d(x[:, 2:], 2))


@pytest.mark.slow
def test_a_quarter_of_the_channels_makes_a_sixth_of_the_weights() -> None:
    with torch.device("meta"):
        net = DartsSpace(16, 8, operations=("none", *DARTS_OPERATIONS), search=True, partial_channels=4)
        supernet = relax(net)
    assert sum(p.numel() for p in net.parameters()) == 299_578  # 1,930,618 with all channels
    assert supernet.shapes == {"normal": (14, 8), "reduce": (14, 8)}


def test_sharing_what_passes_by_changes_nothing() -> None:
    torch.manual_seed(0)
    net = space()
    supernet = relax(net)
    net.double()
    weights = {label: torch.rand(shape).double() for label, shape in supernet.shapes.items()}
    supernet.receive(weights)
    cell = supernet.mixed("normal")
    states = [torch.randn(2, 4, 8, 8).double() for _ in range(2)]
    found = cell._mixed(states)
    expected = list(states)
    row = 0
    for node in cell.nodes:
        total: Any = 0
        for state in range(node):
            for i, operation in enumerate(cell._on((node, state))):
                total = total + weights["normal"][row, i] * operation(expected[state])
            row += 1
        expected.append(total)
    for one, other in zip(found, expected[2:]):
        torch.testing.assert_close(one, other)


def test_none_passes_the_rest_on_but_is_not_derived() -> None:
    net = space()
    supernet = relax(net)
    cell = supernet.mixed("normal")
    assert cell.is_none == (True, False, False, False)
    only_none = {label: torch.eye(4)[0].expand(shape) for label, shape in supernet.shapes.items()}
    supernet.receive(only_none)
    x = torch.randn(2, 3, 8, 8)
    assert net(x).isfinite().all()
    assert "none" not in supernet.derive(only_none).values()


def test_one_sampled_operation_of_a_part_equals_the_operation_itself() -> None:
    supernet = relax(space())
    cell = supernet.mixed("normal").eval()
    states = [torch.randn(2, 4, 8, 8) for _ in range(2)]
    chosen = (3, 2, 1, 3, 0)
    cell.receive({"normal": torch.eye(4)[list(chosen)]})
    plain = cell._mixed(states)
    cell.hard = chosen
    for one, other in zip(cell._mixed(states), plain):
        torch.testing.assert_close(one, other)


def test_edges_into_a_node_share_a_softmax() -> None:
    beta = torch.tensor([0.0, 1.0, 5.0, 5.0, 5.0])
    weights = edge_weights(beta, [2, 3])
    torch.testing.assert_close(weights[:2], beta[:2].softmax(0))
    torch.testing.assert_close(weights[2:], torch.full((3,), 1 / 3))


def test_with_equal_edges_and_all_channels_a_node_is_that_of_darts_by_its_edges() -> None:
    pc_darts = PCDarts(warmup_epochs=0, guard=False)
    searched(pc_darts, lambda: Lit(space(parts=1)))
    for label in ("normal", "reduce"):
        pc_darts.alphas[f"{label}/edges"].data.zero_()
    darts = pc_darts.supernet.activate({label: pc_darts.alphas[label] for label in ("normal", "reduce")})
    cell = pc_darts.supernet.mixed("normal").eval()
    states = [torch.randn(2, 4, 8, 8) for _ in range(2)]
    with torch.no_grad():
        cell.receive(darts)
        (first, _) = cell._mixed(states)
        cell.receive(pc_darts.activate())
        (scaled, _) = cell._mixed(states)
    torch.testing.assert_close(2 * scaled, first)  # the first node has two edges


def test_alphas_and_betas_move_after_the_warm_up_alone() -> None:
    class Keeping(PCDarts):
        kept: list[dict[str, Tensor]]

        def on_train_epoch_start(self, *arguments: Any) -> None:
            self.kept = [*getattr(self, "kept", []), {k: a.detach().clone() for k, a in self.alphas.items()}]

    pc_darts = Keeping(warmup_epochs=2, guard=False)
    searched(pc_darts, max_epochs=4)
    first, _, third, fourth = pc_darts.kept
    assert set(first) == {"normal", "reduce", "normal/edges", "reduce/edges"}
    assert all(torch.equal(first[name], third[name]) for name in first)
    assert all(not torch.equal(third[name], fourth[name]) for name in first)


def test_the_weights_of_a_node_sum_up_to_one() -> None:
    pc_darts = PCDarts(warmup_epochs=0, guard=False)
    searched(pc_darts)
    for weight in pc_darts.weights().values():
        torch.testing.assert_close(torch.stack([weight[:2].sum(), weight[2:].sum()]), torch.ones(2))


def test_the_derived_edges_weigh_alphas_and_betas() -> None:
    pc_darts = PCDarts(warmup_epochs=0, guard=False)
    searched(pc_darts)
    # Edges 2, 3 and 4 go into the second node: alphas alone would leave out the third of them.
    pc_darts.alphas["normal"].data = torch.tensor([[0.0, 0, 2, 0]] * 4 + [[0.0, 0, 0, 1]])
    pc_darts.alphas["normal/edges"].data = torch.tensor([0.0, 0, 0, -9, 3])
    sample = pc_darts.sample()
    states = {sample["normal/input_3_0"], sample["normal/input_3_1"]}
    assert states == {0, 2}


def test_the_sample_carries_over_to_the_final_network() -> None:
    pc_darts = PCDarts(warmup_epochs=0, guard=False)
    searched(pc_darts)
    final = DartsSpace(8, 3, nodes=2, num_classes=4, operations=OPERATIONS).build(pc_darts.sample())
    assert final(torch.randn(2, 3, 8, 8)).shape == (2, 4)
    assert not any(isinstance(module, PartialChannels) for module in final.modules())


def test_a_resumed_search_equals_one_that_was_never_stopped(tmp_path: Path) -> None:
    def run(ckpt_path: Path | None = None) -> dict[str, Tensor]:
        pc_darts = PCDarts(warmup_epochs=0, guard=False)
        kept = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        module = searched(pc_darts, callbacks=[kept], ckpt_path=ckpt_path, max_epochs=3)
        return {**module.state_dict(), **{f"alpha {n}": alpha for n, alpha in pc_darts.alphas.items()}}

    whole = run()
    again = run(tmp_path / "step=2.ckpt")
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


def test_the_settings_of_the_paper() -> None:
    pc_darts = PCDarts()
    settings = (pc_darts.learning_rate, pc_darts.warmup_epochs, pc_darts.betas, pc_darts.weight_decay)
    assert settings == (6e-4, 15, (0.5, 0.999), 1e-3)
    assert Darts().warmup_epochs == 0


def test_a_space_without_cells_is_refused() -> None:
    with pytest.raises(SearchError, match="there is no Cell; use Darts"):
        search(PCDarts(), Lit())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partial_channels": 3, "search": True}, "`partial_channels` must divide `channels`"),
        ({"partial_channels": 2}, "give search=True"),
        ({"partial_channels": 2, "search": True, "drop_path": 0.1}, "no drop_path"),
    ],
)
def test_partial_channels_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DartsSpace(channels=4, layers=3, **options)
