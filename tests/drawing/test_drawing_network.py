"""Whole networks as SVG."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from read_drawings import NS, architectures, boxes, check, read, renamed, texts, tips

from lightning_nas.architecture import Architecture, Layer
from lightning_nas.drawing import DARK, LIGHT, declarations, network_svg
from lightning_nas.drawing.folding import fold
from lightning_nas.drawing.layout import longest_paths, place
from lightning_nas.drawing.ranks import Box
from lightning_nas.drawing.svg import fitted, text_width


def names_of(svg: str) -> list[str]:
    return [group.get("data-name", "") for group in read(svg).iter(f"{NS}g")]


@settings(max_examples=30)
@given(architectures(), st.sampled_from([0, 1, 9]))
def test_any_network_is_drawn_with_each_part_and_line_once(architecture: Architecture, depth: int) -> None:
    svg = network_svg(architecture, depth)
    parts, edges = fold(architecture, depth)
    check(svg)
    assert sorted(names_of(svg)) == sorted(part.name for part in parts)
    assert tips(svg) == len(edges)
    assert len(boxes(svg)) == len(parts)


@settings(max_examples=30)
@given(architectures(), st.sampled_from([0, 1, None]))
def test_folding_loses_no_layer_and_no_connection(architecture: Architecture, depth: int | None) -> None:
    parts, edges = fold(architecture, depth)
    assert [layer for part in parts for layer in part.layers] == list(architecture.layers)
    assert sum(part.params for part in parts) == architecture.params
    assert all(a < b for a, b in edges)
    of_layer = {id(layer): i for i, part in enumerate(parts) for layer in part.layers}
    whole = {
        (of_layer[id(architecture.layers[a])], of_layer[id(architecture.layers[b])])
        for a, b in architecture.edges
    }
    assert set(edges) == {(a, b) for a, b in whole if a != b}
    inside = sum(len(part.wiring) for part in parts)
    crossing = [
        edge for edge in architecture.edges if len({of_layer[id(architecture.layers[i])] for i in edge}) == 2
    ]
    assert inside + len(crossing) == len(architecture.edges)


@settings(max_examples=30)
@given(architectures())
def test_lines_lead_from_box_to_box(architecture: Architecture) -> None:
    count = len(architecture.layers)
    ranks = longest_paths(count, architecture.edges)
    layout = place([Box(30, 80, rank, spread=10) for rank in ranks], architecture.edges, 20)
    assert {(line.source, t) for line in layout.lines if line.is_last for t in line.targets} == set(
        architecture.edges
    )
    items = {item.number: item for item in layout.items}
    starts = {(line.source, line.end): line for line in layout.lines if not line.is_last}
    for line in layout.lines:
        if line.is_last:
            (target,) = line.targets
            assert line.end[0] == items[target].start
            assert abs(line.end[1] - items[target].place) <= 40
        at = line
        while at.start != (items[at.source].end, items[at.source].place):
            at = starts[at.source, at.start]  # KeyError: the line begins nowhere


BLOCKS = Architecture(
    (
        Layer("x", "input", shape=(1, 3, 8, 8)),
        Layer("stage.0.conv", "Conv2d", "3 -> 8, 3x3", "stage.0", "stage/conv", 216, 13_824, (1, 8, 8, 8)),
        Layer("stage.0.gate.fc", "Linear", "8 -> 8", "stage.0", None, 72, 64, (1, 8)),
        Layer("stage.0.gate.mul", "mul", "", "stage.0", None, 0, 0, (1, 8, 8, 8)),
        Layer("stage.0.add", "add", "", "stage.0", None, 0, 0, (1, 8, 8, 8)),
        Layer("head", "Linear", "8 -> 10", "head", None, 90, 80, (1, 10)),
        Layer("output", "output", shape=(1, 10)),
    ),
    ((0, 1), (1, 2), (1, 3), (2, 3), (3, 4), (1, 4), (4, 5), (5, 6)),
    400,
    13_968,
    {"": "Net", "stage.0": "Stage", "stage.0.gate": "Gate"},
)


def test_blocks_are_opened_by_depth_and_by_name() -> None:
    def parts(depth: int | None = None, opened: tuple[str, ...] = ()) -> list[str]:
        return [part.name for part in fold(BLOCKS, depth, opened)[0]]

    inside = ["stage.0.conv", "stage.0.gate", "stage.0.add"]
    assert parts(0) == ["x", "stage.0", "head", "output"]
    assert parts(1) == parts(0, ("stage.0",)) == ["x", *inside, "head", "output"]
    assert (
        parts(2) == parts() == parts(0, ("stage.0", "stage.0.gate")) == [each.name for each in BLOCKS.layers]
    )
    with pytest.raises(ValueError, match="`depth` must be at least 0, but got -1"):
        network_svg(BLOCKS, -1)


def test_a_block_says_what_it_is_and_what_it_costs() -> None:
    svg = network_svg(BLOCKS, 0)
    assert {
        "stage.0",
        "Stage",
        "4 layers · 8\u00d78\u00d78",
        "288 params · 13.9k MACs",
        "◆ stage/conv",
    } <= set(texts(svg))
    assert "5 layers · 400 parameters · 14k MACs · 22 of the parameters not used in evaluation" in texts(svg)
    (block,) = [group for group in read(svg).iter(f"{NS}g") if group.get("data-block")]
    assert block.get("data-block") == "stage.0"
    assert block.findtext(f"{NS}title") == (
        "stage.0: Stage; 4 layers; puts out 8\u00d78\u00d78; 288 parameters; 13,888 MACs; chosen by stage/conv"
    )


def test_a_block_that_runs_twice_is_drawn_twice() -> None:
    layers = [Layer(f"block.fc{i}", "Linear", "", "block") for i in range(2)]
    other = Layer("pool", "MaxPool2d", "", "pool")
    again = [replace(layer, name=f"{layer.name}_2") for layer in layers]
    found = Architecture((*layers, other, *again), ((0, 1), (1, 2), (2, 3), (3, 4)), 0)
    parts, edges = fold(found, 0)
    assert [part.name for part in parts] == ["block", "pool", "block"]
    assert edges == [(0, 1), (1, 2)]


def test_large_networks_are_folded_unless_told_otherwise() -> None:
    layers = tuple(Layer(f"blocks.{i // 4}.conv{i % 4}", "Conv2d", "", f"blocks.{i // 4}") for i in range(44))
    large = Architecture(layers, tuple((i, i + 1) for i in range(43)), 0)
    assert len(fold(large)[0]) == 11
    assert len(fold(large, 1)[0]) == 44


def test_whatever_a_network_says_is_shown_as_text() -> None:
    evil = '<script>alert("1")</script>&\x00\x1b[31m'
    svg = network_svg(renamed(BLOCKS, name=evil, kind=evil, detail=evil, choice=evil), title=evil)
    assert "<script" not in svg
    check(svg)


def test_long_texts_are_cut_and_said_in_full() -> None:
    name = "encoder." + "very_" * 40 + "deep"
    svg = network_svg(renamed(BLOCKS, name=name))
    assert name not in texts(svg)
    assert any("…" in text for text in texts(svg))
    assert name in svg
    check(svg)
    assert text_width(fitted(name, 100, 13), 13) <= 100


def test_a_network_without_layers_is_drawn() -> None:
    assert "Network has no layers." in texts(network_svg(Architecture((), (), 0)))


def test_the_colours_can_be_set_by_a_page() -> None:
    assert LIGHT.keys() == DARK.keys()
    svg = network_svg(BLOCKS)
    used = set(svg.split("var(--lnas-")[1:])
    assert {each.partition(",")[0] for each in used} <= set(LIGHT)
    assert f"--lnas-ink: {DARK['ink']};" in declarations(DARK)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_texts_stand_out_as_wcag_wants(palette: dict[str, str]) -> None:
    """WCAG 2.1, criterion 1.4.3: at least 4.5 between a text and what it stands on."""
    backs = ("paper", "box", "back", "changed-back", "added-back", "removed-back")
    for text in ("ink", "muted", "label"):
        for back in backs:
            assert contrast(palette[text], palette[back]) >= 4.5, (text, back)
    for status in ("changed", "added", "removed"):
        for back in ("paper", f"{status}-back"):
            assert contrast(palette[status], palette[back]) >= 4.5, (status, back)
    for fill in ("conv", "dilated", "block", "max-pool", "avg-pool", "skip", "none", "other"):
        assert contrast(palette["on-fill"], palette[fill]) >= 4.5, fill
