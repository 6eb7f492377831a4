"""Cells as SVG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from read_drawings import boxes, check, read, texts, tips

from lightning_nas import hub
from lightning_nas.drawing import cells_svg
from lightning_nas.hub import Genotype

GENOTYPES = ("NASNET_A", "AMOEBANET_A", "DARTS_V1", "DARTS_V2", "PC_DARTS_CIFAR", "PC_DARTS_IMAGE")


# Where `distinct` is missing, a node takes one state twice.
@pytest.mark.parametrize(
    ("name", "distinct"), [*((name, False) for name in GENOTYPES), *((name, True) for name in GENOTYPES[2:])]
)
def test_the_cells_of_published_genotypes_are_drawn(name: str, distinct: bool) -> None:
    genotype: Genotype = getattr(hub, name)
    drawings = cells_svg(genotype.sample(distinct=distinct), genotype.concat)
    assert list(drawings) == ["normal", "reduce"]
    for kind, svg in drawings.items():
        check(svg)
        edges, concat = getattr(genotype, kind), genotype.concat[kind]
        shown = sorted(word.removesuffix(" /2") for word in texts(svg) if "_" in word)
        assert shown == sorted(operation for operation, _ in edges)
        strided = sum(word.endswith(" /2") for word in texts(svg))
        assert strided == (sum(state < 2 for _, state in edges) if kind == "reduce" else 0)
        assert len(boxes(svg)) == 2 + len(edges) // 2 + len(edges) + 1
        assert tips(svg) == 2 * len(edges) + len(concat)


@pytest.mark.data
def test_the_genotypes_of_the_reference_are_drawn() -> None:
    path = Path(__file__).parents[3] / "shared" / "reference" / "genotypes.json"
    if not path.exists():
        pytest.skip("no reference beside the checkout")
    for found in json.loads(path.read_text()).values():
        genotype = Genotype(**found)
        for svg in cells_svg(genotype.sample(), genotype.concat).values():
            check(svg)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_any_cell_is_drawn_without_crossing_a_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, per_node = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    sample: dict[str, Any] = {"lr": 0.1}
    for node in range(first, first + int(rng.integers(1, 7))):
        for k in range(per_node):
            sample[f"stack/0/op_{node}_{k}"] = int(rng.integers(8))
            sample[f"stack/0/input_{node}_{k}"] = int(rng.integers(node))
    (svg,) = cells_svg(sample).values()
    check(svg)
    assert "Cell stack/0" in texts(svg)


def test_a_cell_of_nas_bench_201_is_drawn_with_its_zeros() -> None:
    sample = hub.from_arch_string(
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    )
    (svg,) = cells_svg(sample).values()
    check(svg)
    assert texts(svg).count("none") == 2
    assert "output" in texts(svg)
    assert len(boxes(svg)) == 1 + 6 + 3 + 1


@pytest.mark.parametrize(
    "sample",
    [
        {},
        {"lr": 0.1, "layers": 3},
        {"normal/op_2_0": "sep_conv_3x3"},
        {"normal/op_2_0": "a", "normal/input_2_0": 5},
        {"normal/op_2_0": "a", "normal/input_2_0": "state"},
        {"edge_0_1": "a", "edge_0_2": "b"},
    ],
)
def test_a_sample_without_whole_cells_gives_none(sample: dict[str, Any]) -> None:
    assert cells_svg(sample) == {}


def test_cells_as_nni_exported_them_are_drawn() -> None:
    sample = {
        "normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": [0],
        "normal/op_2_1": "max_pool_3x3", "normal/input_2_1": [1],
    }  # fmt: skip
    assert "sep_conv_3x3" in texts(cells_svg(sample)["normal"])


def test_whatever_a_sample_says_is_shown_as_text() -> None:
    evil = '<script>alert("1")</script>&\x00\x1b[31m\ud800'
    sample = {f"{evil}/op_1_0": evil, f"{evil}/input_1_0": 0}
    (svg,) = cells_svg(sample).values()
    svg.encode()
    assert "<script" not in svg
    assert not any("script" in element.tag for element in read(svg).iter())
    check(svg)
