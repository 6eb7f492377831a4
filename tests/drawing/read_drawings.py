"""Reads drawings: their boxes, lines and texts; and makes architectures to draw."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from lightning_nas.architecture import Architecture, Layer

NS = "{http://www.w3.org/2000/svg}"
_BOXES = {"box", "end", "sheet", "operation", "node", "input", "output"}
_WORDS = {"M": 2, "L": 2, "C": 6, "Q": 4, "H": 1, "V": 1}

Point = tuple[float, float]


def read(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def classes(element: ET.Element) -> set[str]:
    return set(element.get("class", "").split())


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each box; a block with the sheet behind it is one box."""
    found = []
    for group in read(svg).iter(f"{NS}g"):
        rects = [rect for rect in group.iter(f"{NS}rect") if classes(rect) & _BOXES]
        corners = [[float(rect.get(key, 0)) for key in ("x", "y", "width", "height")] for rect in rects]
        if corners:
            right, bottom = max(c[0] + c[2] for c in corners), max(c[1] + c[3] for c in corners)
            found.append((min(c[0] for c in corners), min(c[1] for c in corners), right, bottom))
    return found


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in read(svg).iter(f"{NS}text")]


def tips(svg: str) -> int:
    return sum("tip" in classes(path) for path in read(svg).iter(f"{NS}path"))


def lines(svg: str) -> Iterator[list[Point]]:
    """Points along each line, at most 3 pixels apart."""
    for path in read(svg).iter(f"{NS}path"):
        if "line" in classes(path):
            yield list(_along(path.get("d", "")))


def _along(d: str) -> Iterator[Point]:
    at: Point = (0.0, 0.0)
    for letter, rest in re.findall(r"([MLCQHV])([^MLCQHV]*)", d):
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", rest)]
        assert numbers
        assert len(numbers) % _WORDS[letter] == 0
        if letter in "HV":
            points = [(numbers[0], at[1]) if letter == "H" else (at[0], numbers[0])]
        else:
            points = list(zip(numbers[::2], numbers[1::2]))
        if letter != "M":
            controls = [at, *points]
            steps = max(2, int(sum(math.dist(a, b) for a, b in itertools.pairwise(controls)) / 3))
            for step in range(steps + 1):
                yield _bezier(controls, step / steps)
        at = points[-1]


def _bezier(points: Sequence[Point], t: float) -> Point:
    while len(points) > 1:
        points = [((1 - t) * a + t * c, (1 - t) * b + t * d) for (a, b), (c, d) in itertools.pairwise(points)]
    return points[0]


def check(svg: str) -> None:
    """No two boxes overlap, none leaves the drawing, and no line runs through one."""
    found = boxes(svg)
    root = read(svg)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert root.get("viewBox") == f"0 0 {width:.0f} {height:.0f}"
    assert root.get("role") == "img"
    for i, (left, top, right, bottom) in enumerate(found):
        assert 0 <= left < right <= width + 0.6
        assert 0 <= top < bottom <= height + 0.6
        for other in found[:i]:
            apart = left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]
            assert apart, (found[i], other)
    for line in lines(svg):
        for x, y in line:
            assert -0.6 <= x <= width + 0.6
            assert -0.6 <= y <= height + 0.6
            for left, top, right, bottom in found:
                # A line may begin on the sheet behind a block.
                is_inside = left + 1 < x < right - 5 and top + 1 < y < bottom - 5
                assert not is_inside, ((x, y), (left, top, right, bottom))


@st.composite
def architectures(draw: st.DrawFn, most: int = 24) -> Architecture:
    """Networks of any wiring, some of whose layers stand in blocks."""
    count = draw(st.integers(1, most))
    layers = [Layer("x", "input", shape=(1, 3, 8, 8))]
    edges = []
    block, number = "", 0
    kinds = {"": "Net"}
    for place in range(1, count + 1):
        if draw(st.booleans()):
            number += 1
            block = draw(st.sampled_from(["", f"stage.{number}"]))
        kind = draw(st.sampled_from(["Conv2d", "add", "ReLU", "Mixer"]))
        name = f"{block}.{kind.lower()}{place}" if block else f"{kind.lower()}{place}"
        if block:
            kinds[block] = "Stage"
        choice = draw(st.sampled_from([None, "a/very/long/label/that/is/cut/somewhere/in/its/middle"]))
        params = draw(st.integers(0, 10**9))
        layers.append(Layer(name, kind, "3 -> 8, 3x3", block, choice, params, params, (1, 8, 8, 8)))
        sources = draw(st.sets(st.integers(0, place - 1), min_size=1, max_size=3))
        edges += [(source, place) for source in sorted(sources)]
    layers.append(Layer("output", "output", shape=(1, 8)))
    edges.append((count, count + 1))
    total = sum(layer.params for layer in layers)
    return Architecture(tuple(layers), tuple(edges), total, total, kinds)


def renamed(architecture: Architecture, **fields: object) -> Architecture:
    """The same with fields of its second layer changed."""
    layers = list(architecture.layers)
    layers[1] = replace(layers[1], **fields)  # type: ignore[arg-type]
    return replace(architecture, layers=tuple(layers))
