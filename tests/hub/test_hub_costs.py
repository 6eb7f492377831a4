"""The hub's networks have the multiply-accumulates, and the other forms the weights, that were published."""

from __future__ import annotations

import pytest
import torch

from lightning_nas import hub
from lightning_nas.evaluators.cost import count_macs
from lightning_nas.hub import DartsSpace, NasBench201Space, from_arch_string
from lightning_nas.hub.darts import make_operation
from lightning_nas.hub.operations import DropPath, FactorizedReduce

CIFAR_MACS = {
    "DARTS_V1": 500_987_520,
    "DARTS_V2": 528_359_040,
    "NASNET_A": 603_452_448,
    "AMOEBANET_A": 488_931_552,
    "PC_DARTS_CIFAR": 556_670_592,
    "PC_DARTS_IMAGE": 570_466_944,
}
IMAGENET = {
    "DARTS_V1": (4_510_432, 505_864_704),
    "DARTS_V2": (4_718_752, 529_911_552),
    "PC_DARTS_CIFAR": (5_270_560, 571_137_408),
    "PC_DARTS_IMAGE": (5_342_464, 581_627_328),
}


def _parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def _built(name: str, **options) -> torch.nn.Module:
    genotype = getattr(hub, name)
    shape = dict(nodes=genotype.nodes, operations=genotype.operations, concat=genotype.concat)
    with torch.device("meta"):
        return DartsSpace(**shape, **options).build(genotype.sample())


@pytest.mark.slow
@pytest.mark.parametrize("name", CIFAR_MACS)
def test_published_genotypes_cost_exactly_what_was_measured(name: str) -> None:
    assert count_macs(_built(name), torch.zeros(1, 3, 32, 32)) == CIFAR_MACS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGENET)
def test_published_genotypes_have_their_sizes_on_imagenet(name: str) -> None:
    model = _built(name, channels=48, layers=14, num_classes=1000, stem="imagenet")
    assert (_parameters(model), count_macs(model, torch.zeros(1, 3, 224, 224))) == IMAGENET[name]


@pytest.mark.parametrize(
    ("edges", "macs"),
    [
        (["nor_conv_3x3"] * 6, 220_119_680),
        (["nor_conv_1x1"] * 6, 31_376_000),
        (["skip_connect"] * 6, 7_783_040),
        (["nor_conv_3x3"] * 3 + ["skip_connect", "nor_conv_3x3", "nor_conv_1x1"], 153_272_960),
        (["nor_conv_3x3", "none", "nor_conv_3x3", "skip_connect", "none", "skip_connect"], 78_561_920),
    ],
)
def test_nasbench201_networks_cost_exactly_what_was_measured(edges: list[str], macs: int) -> None:
    arch = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*edges)
    with torch.device("meta"):
        model = NasBench201Space().build(from_arch_string(arch))
    assert count_macs(model, torch.zeros(1, 3, 32, 32)) == macs


@pytest.mark.slow
def test_the_search_form_has_the_weights_of_the_published_supernet() -> None:
    """Every operation on every edge, as the supernet has them: 1,930,618 weights at C=16, L=8."""
    operations = ("none", *hub.DARTS_OPERATIONS)
    with torch.device("meta"):
        model = DartsSpace(16, 8, operations=operations, search=True).build(hub.DARTS_V1.sample())
        rest = _parameters(model) - sum(_parameters(cell.operations) for cell in model.cells)
        edges = 0
        for i in range(8):
            channels = 16 * 2 ** ((i >= 2) + (i >= 5))
            for node in range(2, 6):
                for state in range(node):
                    stride = 2 if i in (2, 5) and state < 2 else 1
                    made = (make_operation(name, channels, stride, search=True) for name in operations)
                    edges += _parameters(*made)
    assert rest + edges == 1_930_618


@pytest.mark.slow
def test_the_mobilenetv3_space_holds_mobilenetv3_large() -> None:
    """Table 1 of the paper; its network for 1,000 classes has 5,483,032 weights, of which our head lacks one bias."""
    stages = [
        [(3, 4), (3, 3)],
        [(5, 3), (5, 3), (5, 3)],
        [(3, 6), (3, 2.5), (3, 2.3), (3, 2.3)],
        [(3, 6), (3, 6)],
        [(5, 6), (5, 6), (5, 6)],
    ]
    sample: dict = {}
    for s, blocks in enumerate(stages):
        sample[f"stage{s}/depth"] = len(blocks)
        for i, (kernel, expansion) in enumerate(blocks):
            sample[f"stage{s}/block{i}/kernel"] = kernel
            sample[f"stage{s}/block{i}/expansion"] = expansion
    with torch.device("meta"):
        model = hub.MobileNetV3Space(expansions=(3, 4, 6, 2.3, 2.5)).build(sample)
    assert _parameters(model) == 5_483_032 - 1_280


def test_drop_path_is_on_every_edge_but_identities_and_only_in_training() -> None:
    net = DartsSpace(4, 3, drop_path=0.5)
    model = net.build({**hub.DARTS_V1.sample(), "reduce/op_2_0": "skip_connect"})
    for cell in model.cells:
        for operation in [operation for node in cell.operations for operation in node]:
            is_dropped = any(isinstance(module, DropPath) for module in operation.modules())
            assert is_dropped != isinstance(operation, torch.nn.Identity)
    assert isinstance(model.cells[1].operations[0][0][0], FactorizedReduce)  # a skip, but no identity
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(model.eval()(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


def test_drop_path_keeps_the_mean_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.ones(4000, 2, 1, 1)
    y = drop(x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(y[:, 0], y[:, 1])
    assert abs(y.mean().item() - 1) < 0.05  # 5.5 standard deviations
    hub.set_drop_path(drop, 0.0)
    assert torch.equal(drop(x), x)


@pytest.mark.parametrize("options", [{"stem": "mnist"}, {"drop_path": 1.0}])
def test_wrong_options_are_named(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        DartsSpace(4, 3, **options)


def test_the_imagenet_form_has_an_auxiliary_head_too() -> None:
    sample = hub.DARTS_V1.sample()
    model = DartsSpace(4, 3, num_classes=7, stem="imagenet", auxiliary=True).build(sample)
    logits, auxiliary = model(torch.zeros(2, 3, 224, 224))
    assert logits.shape == auxiliary.shape == (2, 7)
