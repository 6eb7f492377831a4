"""The spaces of the hub have the sizes that were published, to the last digit."""

from __future__ import annotations

import pytest
import torch

from lightning_nas import errors, hub
from lightning_nas.hub import DartsSpace, Genotype, NasBench201Space, from_arch_string, to_arch_string

GENOTYPES = {
    "DARTS_V1": (3_169_414, 3_645_840),
    "DARTS_V2": (3_349_342, 3_825_768),
    "NASNET_A": (3_830_950, 4_288_944),
    "AMOEBANET_A": (3_145_078, 3_603_072),
    "PC_DARTS_CIFAR": (3_634_678, 4_111_104),
    "PC_DARTS_IMAGE": (3_721_510, 4_197_936),
}


def _parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _space(genotype: Genotype, **options) -> DartsSpace:
    shape = dict(nodes=genotype.nodes, operations=genotype.operations, concat=genotype.concat)
    return DartsSpace(**{"channels": 36, "layers": 20, **shape, **options})


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize("name", GENOTYPES)
def test_published_genotypes_have_exactly_their_published_parameters(name: str, auxiliary: bool) -> None:
    genotype = getattr(hub, name)
    with torch.device("meta"):
        model = _space(genotype, auxiliary=auxiliary).build(genotype.sample())
    assert _parameters(model) == GENOTYPES[name][auxiliary]


@pytest.mark.parametrize(
    ("options", "cell"),
    [
        ({}, 83_013_134_400),
        ({"distinct": True}, 1_037_664_180),
        ({"operations": ("none", *hub.DARTS_OPERATIONS)}, 241_591_910_400),
    ],
    ids=["NNI's labels", "as the paper counts", "eight operations"],
)
def test_the_darts_space_has_its_published_size(options: dict, cell: int) -> None:
    assert DartsSpace(channels=4, layers=3, **options).search_space.size == cell**2


@pytest.mark.parametrize(
    ("arch", "parameters"),
    [
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            1_531_546,
        ),
        (
            "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_1x1~2|",
            241_306,
        ),
        (
            "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
            73_306,
        ),
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
            1_073_466,
        ),
        ("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|", 559_386),
    ],
)
def test_nasbench201_networks_have_exactly_their_published_parameters(arch: str, parameters: int) -> None:
    assert to_arch_string(from_arch_string(arch)) == arch
    with torch.device("meta"):
        model = NasBench201Space().build(from_arch_string(arch))
    assert _parameters(model) == parameters


def test_nasbench201_has_its_15625_cells() -> None:
    assert NasBench201Space(channels=4, cells_per_stage=1).search_space.size == 15_625


@pytest.mark.slow
def test_the_mobilenetv3_space_has_its_published_size() -> None:
    net = hub.MobileNetV3Space()
    assert net.search_space.size == (9**2 + 9**3 + 9**4) ** 5
    sample = net.sample(0)
    with torch.device("meta"):
        model = net.build(sample)
    assert len(model.blocks) == 1 + sum(sample[f"stage{s}/depth"] for s in range(5))


def test_the_mobilenetv3_space_runs() -> None:
    net = hub.MobileNetV3Space(num_classes=7, width_multiplier=0.25)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_a_sample_carries_over_from_the_search_form_to_the_final_form() -> None:
    spaces = [DartsSpace(channels=4, layers=3, search=search) for search in (True, False)]
    assert spaces[0].search_space == spaces[1].search_space
    models = [space.build(hub.DARTS_V2.sample()) for space in spaces]
    norms = [
        [m.affine for m in model.cells[0].modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for model in models
    ]
    assert not any(norms[0])
    assert all(norms[1])


def test_the_auxiliary_head_speaks_only_in_training() -> None:
    model = _space(hub.DARTS_V1, channels=4, layers=3, auxiliary=True).build(hub.DARTS_V1.sample())
    logits, auxiliary = model(torch.zeros(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", GENOTYPES)
def test_genotypes_survive_text_and_samples(name: str) -> None:
    genotype = getattr(hub, name)
    assert Genotype.parse(str(genotype)) == genotype
    assert Genotype.from_sample(genotype.sample(), genotype.concat) == genotype


def test_genotypes_of_the_darts_code_and_of_nni_are_read() -> None:
    text = str(hub.DARTS_V2).replace("[2, 3, 4, 5]", "range(2, 6)")
    assert Genotype.parse(text) == hub.DARTS_V2
    nni = {k: [v] if "input" in k else v for k, v in hub.DARTS_V2.sample().items()}
    assert Genotype.from_sample(nni) == hub.DARTS_V2
    space = DartsSpace(channels=4, layers=3)
    assert space.build(nni).cells[0].states == space.build(hub.DARTS_V2.sample()).cells[0].states


def test_distinct_states_hold_the_same_network() -> None:
    genotype = hub.DARTS_V1
    with torch.device("meta"):
        model = DartsSpace(distinct=True).build(genotype.sample(distinct=True))
    assert _parameters(model) == GENOTYPES["DARTS_V1"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Genotype(", "is written Genotype"),
        (
            "Genotype(normal=[('a', 0), ('a', 2)], normal_concat=[2], reduce=[], reduce_concat=[0])",
            "a state below 2",
        ),
        ("Genotype(normal=[('a', 0)], normal_concat=[2], reduce=[], reduce_concat=[0])", "two edges"),
        (
            "Genotype(normal=[('a', 0), ('a', 1)], normal_concat=[9], reduce=[], reduce_concat=[0])",
            "normal_concat",
        ),
    ],
)
def test_wrong_genotypes_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(errors.SampleError, match=message):
        Genotype.parse(text)


@pytest.mark.parametrize("arch", ["|none~0|", "|none~0|+|none~0|none~1|+|none~0|none~1|none~3|"])
def test_wrong_architecture_strings_say_the_form(arch: str) -> None:
    with pytest.raises(errors.SampleError, match="is written"):
        from_arch_string(arch)


def test_unknown_operations_are_named() -> None:
    with pytest.raises(ValueError, match="sep_conv_9x9"):
        DartsSpace(operations=("sep_conv_9x9",))
    with pytest.raises(errors.SampleError, match="conv_9x9"):
        from_arch_string("|conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|")
