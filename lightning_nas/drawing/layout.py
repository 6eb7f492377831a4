"""Places boxes in ranks, so that every line leads from one rank to the next and none crosses a box.

Where a box is needed further on, a lane of its own leads through the ranks between.

Source: the layered layout of Sugiyama, Tagawa and Toda, IEEE SMC 1981: ranks by longest path, order by
barycentres and exchanges of neighbours, then positions by isotonic regression.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lightning_nas.drawing.ranks import Box, Item, order, ranked, set_places


@dataclass(frozen=True)
class Line:
    """From `start`, across the gap between two ranks, to `end`; points are (along, across).

    `turn` and `arrive` say where along the flow the gap begins and ends. `source` is the number of the box
    that it comes from and `targets` those of the boxes that it leads to in the end; `is_last` says that
    it reaches one.
    """

    source: int
    targets: frozenset[int]
    start: tuple[float, float]
    turn: float
    arrive: float
    end: tuple[float, float]
    is_last: bool


@dataclass(frozen=True)
class Layout:
    """Boxes and lines in their places; the whole goes from 0 to `length` and from 0 to `breadth`."""

    items: tuple[Item, ...]
    lines: tuple[Line, ...]
    length: float
    breadth: float


def longest_paths(count: int, edges: Collection[tuple[int, int]]) -> list[int]:
    """The rank of each of `count` boxes: one more than the highest before it, 0 where there is none.

    What has nothing before it stands right before what it leads to.

    Args:
        count: of the boxes, numbered in an order in which all edges lead forwards.
        edges: pairs of numbers.
    """
    ranks = [0] * count
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        ranks[end] = max(ranks[end], ranks[start] + 1)
    with_source = {end for _, end in edges}
    for number in range(count):
        ends = [ranks[end] for start, end in edges if start == number] if number not in with_source else []
        if ends:
            ranks[number] = min(ends) - 1
    return ranks


def place(
    boxes: Sequence[Box], edges: Collection[tuple[int, int]], least_gap: float, has_spine: bool = False
) -> Layout:
    """Lays out boxes and the lines between them.

    Args:
        boxes: what is to be placed.
        edges: pairs of their numbers; each leads to a higher rank.
        least_gap: between two ranks, in pixels; more where lines lead far to the side.
        has_spine: whether boxes that are alone in their ranks stand in one line.
    """
    ranks = ranked(boxes, edges)
    order(ranks)
    alone = [[item.number for item in rank if item.box is not None] for rank in ranks] if has_spine else []
    set_places(ranks, {numbers[0] for numbers in alone if len(numbers) == 1})
    items = [item for rank in ranks for item in rank]
    low = min(item.place - item.breadth / 2 for item in items)
    for item in items:
        item.place -= low
    lines: list[Line] = []
    reached = _reached(ranks)
    position = 0.0
    for rank, following in zip(ranks, [*ranks[1:], []]):
        length = max((item.box.length for item in rank if item.box is not None), default=0.0)
        for item in rank:
            inset = 0.0 if item.box is None else (length - item.box.length) / 2
            item.start, item.end = position + inset, position + length - inset
        turn = position + length
        aside = max((abs(item.place - _arrival(item, t)) for item in rank for t in item.after), default=0.0)
        position = turn + max(least_gap, min(3 * least_gap, 0.12 * aside))
        lengths = max((item.box.length for item in following if item.box is not None), default=0.0)
        for item in rank:
            for target in item.after:
                inset = 0.0 if target.box is None else (lengths - target.box.length) / 2
                end = (position + inset, _arrival(item, target))
                start = (item.end, item.place)
                lines.append(
                    Line(item.number, reached[id(target)], start, turn, position, end, target.box is not None)
                )
    last = max(item.end for item in items)
    # A lane is a line through its rank.
    lines += [
        Line(
            item.number,
            reached[id(item)],
            (item.start, item.place),
            item.end,
            item.end,
            (item.end, item.place),
            False,
        )
        for item in items
        if item.box is None
    ]
    return Layout(
        tuple(item for item in items if item.box is not None),
        tuple(lines),
        last,
        max(item.place + item.breadth / 2 for item in items),
    )


def _reached(ranks: Sequence[Sequence[Item]]) -> dict[int, frozenset[int]]:
    """The boxes that each item leads to, by its id: a box to itself."""
    reached: dict[int, frozenset[int]] = {}
    for item in itertools.chain.from_iterable(reversed(ranks)):
        own = [frozenset([item.number])] if item.box is not None else [reached[id(t)] for t in item.after]
        reached[id(item)] = frozenset().union(*own)
    return reached


def _arrival(item: Item, target: Item) -> float:
    """Where across the flow the line from `item` meets `target`."""
    if target.box is None or not target.box.spread:
        return target.place
    arriving = sorted(target.before, key=lambda each: each.place)
    step = min(target.box.spread, (target.breadth / 2 - 10) / len(arriving))
    # What comes from straight ahead stays straight.
    ahead = [number for number, each in enumerate(arriving) if abs(each.place - target.place) < 0.5]
    middle = ahead[0] if ahead else (len(arriving) - 1) / 2
    return target.place + (arriving.index(item) - middle) * step
