"""Two networks side by side."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from read_drawings import NS, architectures, boxes, check, classes, read, texts

from lightning_nas.architecture import Architecture, Layer
from lightning_nas.drawing import difference_svg
from lightning_nas.drawing.alignment import align
from lightning_nas.drawing.folding import fold


def layer(
    name: str, kind: str = "Linear", detail: str = "4 -> 4", block: str = "", **fields: object
) -> Layer:
    return replace(Layer(name, kind, detail, block, shape=(1, 4)), **fields)  # type: ignore[arg-type]


def chain(*layers: Layer, skips: tuple[tuple[int, int], ...] = ()) -> Architecture:
    edges = [(i, i + 1) for i in range(len(layers) - 1)]
    return Architecture(layers, (*edges, *skips), sum(each.params for each in layers), 10, {"": "Net"})


@settings(max_examples=30)
@given(architectures(14), architectures(14))
def test_any_two_networks_are_drawn(before: Architecture, after: Architecture) -> None:
    for depth in (0, 3):
        svg = difference_svg(before, after, depth)
        check(svg)
        parts = fold(before, depth)[0], fold(after, depth)[0]
        assert len(boxes(svg)) == len(parts[0]) + len(parts[1])
        pairs = align(*parts)
        assert [pair.before for pair in pairs if pair.before is not None] == list(range(len(parts[0])))
        assert [pair.after for pair in pairs if pair.after is not None] == list(range(len(parts[1])))


@settings(max_examples=30)
@given(architectures())
def test_equal_networks_have_no_difference(architecture: Architecture) -> None:
    svg = difference_svg(architecture, architecture, 9)
    assert f"All {len(architecture.layers)} parts are equal." in texts(svg)
    marks = {"changed", "added", "removed", "gone", "new"}
    assert not any(classes(element) & marks for element in read(svg).iter())


def test_each_difference_has_a_sign_and_a_word() -> None:
    before = chain(layer("a"), layer("b"), layer("c", "ReLU", ""), layer("d"))
    after = chain(layer("a"), layer("b", detail="4 -> 8"), layer("d"), layer("e", "Tanh", ""))
    svg = difference_svg(before, after, names=("trial 3", "trial 7"))
    shown = texts(svg)
    assert {"trial 3", "trial 7", "≠", "changed", "+", "added", "\u2212", "removed"} <= set(shown)
    assert "1 changed · 1 added · 1 removed · 2 equal" in shown
    assert "≠ → 4, now → 8" in shown
    check(svg)


def test_parts_that_moved_on_are_found_again() -> None:
    """With a block more in front, all blocks behind it have other names."""
    blocks = [layer(f"blocks.{i}.fc", detail=f"{i} -> {i}", block=f"blocks.{i}") for i in range(5)]
    new = layer("blocks.0.fc", detail="9 -> 9", block="blocks.0")
    moved = [
        replace(each, name=f"blocks.{i + 1}.fc", block=f"blocks.{i + 1}") for i, each in enumerate(blocks)
    ]
    parts = fold(chain(*blocks), 0)[0], fold(chain(new, *moved), 0)[0]
    statuses = [(pair.before, pair.after, pair.status) for pair in align(*parts)]
    assert statuses == [(None, 0, "added"), *((i, i + 1, "equal") for i in range(5))]


def test_connections_that_only_one_has_are_marked() -> None:
    layers = [layer("a"), layer("b"), layer("c"), layer("d")]
    svg = difference_svg(chain(*layers, skips=((0, 2),)), chain(*layers, skips=((1, 3),)))
    marked = [
        classes(path) & {"gone", "new"} for path in read(svg).iter(f"{NS}path") if "line" in classes(path)
    ]
    assert sorted(map(sorted, filter(None, marked))) == [["gone"], ["new"]]


def test_a_connection_through_an_added_layer_is_still_there() -> None:
    svg = difference_svg(chain(layer("a"), layer("c")), chain(layer("a"), layer("b", "ReLU", ""), layer("c")))
    assert not any(classes(path) & {"gone", "new"} for path in read(svg).iter(f"{NS}path"))


def test_a_changed_block_names_the_choice_that_changed() -> None:
    def cell(kind: str) -> Architecture:
        inside = [
            layer("cell.op.0", "ReLU", "", "cell", choice="normal/op_2_0"),
            layer("cell.op.1", kind, "3x3", "cell", choice="normal/op_2_0"),
            layer("cell.add", "add", "", "cell"),
        ]
        return replace(
            chain(layer("x", "input"), *inside), kinds={"": "Net", "cell": "Cell", "cell.op": f"{kind}Op"}
        )

    svg = difference_svg(cell("Conv2d"), cell("AvgPool2d"), depth=0)
    assert any(
        "normal/op_2_0: Conv2dOp, now AvgPool2dOp" in (each.text or "")
        for each in read(svg).iter(f"{NS}title")
    )


def test_what_cannot_be_a_name_is_shown_as_text() -> None:
    evil = "<script>1</script>"
    svg = difference_svg(chain(layer(evil, evil, evil)), chain(layer("b", evil, "x")), names=(evil, evil))
    assert "<script" not in svg
    check(svg)
