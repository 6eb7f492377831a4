"""Boxes in ranks: which lanes they need, in which order they stand, and how far apart.

Source: as `layout`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

GAP = 16.0  # between neighbours in a rank
_LANE = 8.0
_FIRM = 1e9
_MANY = 400  # items, of which fewer sweeps must do
_SMALL = 40  # a rank whose neighbours are exchanged one by one


@dataclass(frozen=True)
class Box:
    """What is to be placed.

    Args:
        length: along the flow, in pixels.
        breadth: across the flow, in pixels.
        rank: counts from 0 along the flow.
        spread: how far apart lines arrive, in pixels; 0 for one point.
        is_round: its lines count more, so that what leads there stays together.
    """

    length: float
    breadth: float
    rank: int
    spread: float = 0.0
    is_round: bool = False


@dataclass(eq=False)
class Item:
    """A box in its rank, or a lane that passes through it.

    `number` is that of the box, or of the one that the lane comes from; `place` its middle across the flow;
    `start` and `end` where it begins and ends along the flow.
    """

    number: int
    box: Box | None
    breadth: float
    place: float = 0.0
    start: float = 0.0
    end: float = 0.0
    before: list[Item] = field(default_factory=list)
    after: list[Item] = field(default_factory=list)

    def neighbours(self) -> list[Item]:
        return self.before + self.after


def ranked(boxes: Sequence[Box], edges: Collection[tuple[int, int]]) -> list[list[Item]]:
    """The boxes by rank, linked, with the lanes between them."""
    ranks: list[list[Item]] = [[] for _ in range(max(box.rank for box in boxes) + 1)]
    items = [Item(number, box, box.breadth) for number, box in enumerate(boxes)]
    lanes: dict[tuple[int, int], Item] = {}
    for item, box in zip(items, boxes):
        ranks[box.rank].append(item)
    for start, end in sorted(edges):
        at = items[start]
        for rank in range(boxes[start].rank + 1, boxes[end].rank):
            if (start, rank) not in lanes:
                lane = lanes[start, rank] = Item(start, None, _LANE)
                ranks[rank].append(lane)
                _link(at, lane)
            at = lanes[start, rank]
        _link(at, items[end])
    return ranks


def _link(item: Item, target: Item) -> None:
    item.after.append(target)
    target.before.append(item)


def _is_round(item: Item) -> bool:
    return item.box is not None and item.box.is_round


def _crossings(rank: Sequence[Item]) -> float:
    """How many lines from this rank to the next cross."""
    ends = [list(item.after) for item in rank]
    return sum(
        1.5 if _is_round(a) or _is_round(b) else 1.0
        for i, above in enumerate(ends)
        for below in ends[i + 1 :]
        for a in above
        for b in below
        if a.place > b.place
    )


def _number(rank: Sequence[Item]) -> None:
    for place, item in enumerate(rank):
        item.place = float(place)


def order(ranks: list[list[Item]]) -> None:
    """Sorts each rank (in place) so that few lines cross."""
    for rank in ranks:
        _number(rank)
    best, kept = None, [list(rank) for rank in ranks]
    is_large = sum(map(len, ranks)) > _MANY
    for sweep in range(4 if is_large else 24):
        forwards = sweep % 2 == 0
        for rank in ranks if forwards else reversed(ranks):
            sides = {
                id(item): (item.before if forwards else item.after) or item.neighbours() for item in rank
            }
            rank.sort(key=lambda item: sum(n.place for n in sides[id(item)]) / max(len(sides[id(item)]), 1))
            _number(rank)
        _exchange(ranks, 2 if is_large else 8)
        crossings = sum(map(_crossings, ranks))
        if best is None or crossings < best:
            best, kept = crossings, [list(rank) for rank in ranks]
        if best == 0:
            break
    for rank, found in zip(ranks, kept):
        rank[:] = found


def _exchange(ranks: list[list[Item]], times: int) -> None:
    """Swaps neighbours (in place) as long as fewer lines cross for it."""
    for _ in range(times):
        changed = False
        for number, rank in enumerate(ranks):
            if len(rank) > _SMALL:
                continue
            touched = ranks[max(number - 1, 0) : number + 1]
            for i in range(len(rank) - 1):
                before = sum(map(_crossings, touched))
                if not before:
                    break
                rank[i], rank[i + 1] = rank[i + 1], rank[i]
                _number(rank)
                if sum(map(_crossings, touched)) < before:
                    changed = True
                else:
                    rank[i], rank[i + 1] = rank[i + 1], rank[i]
                    _number(rank)
        if not changed:
            return


def set_places(ranks: list[list[Item]], spine: Collection[int] = ()) -> None:
    """Sets `place`: near the neighbours' mean, in the rank's order, without overlap.

    Boxes of the `spine`, at most one in a rank, stand in one line.
    """
    for rank in ranks:
        total = 0.0
        for item in rank:
            item.place = total + item.breadth / 2
            total += item.breadth + GAP
        for item in rank:
            item.place -= total / 2
    for sweep in range(20 if sum(map(len, ranks)) > _MANY else 60):
        for rank in ranks if sweep % 2 == 0 else reversed(ranks):
            wishes = [_wish(item) for item in rank]
            firmness = [1.0] * len(rank)
            for number, item in enumerate(rank):
                if item.box is not None and item.number in spine:
                    wishes[number], firmness[number] = 0.0, _FIRM
            for item, middle in zip(rank, _apart(wishes, [item.breadth for item in rank], firmness)):
                item.place = 0.0 if item.box is not None and item.number in spine else middle


def _wish(item: Item) -> float:
    """Where an item would like to be."""
    # Lanes want to be straight most of all.
    weights = [4.0 if item.box is None or n.box is None else 1.0 for n in item.neighbours()]
    places = [weight * n.place for weight, n in zip(weights, item.neighbours())]
    return sum(places) / sum(weights) if weights else item.place


def _apart(wishes: Sequence[float], breadths: Sequence[float], firmness: Sequence[float]) -> list[float]:
    """The positions nearest to the wishes, in squares weighted by firmness, that keep order and distance."""
    offsets = [0.0]
    for above, below in itertools.pairwise(breadths):
        offsets.append(offsets[-1] + (above + below) / 2 + GAP)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count: pool adjacent violators
    for wish, offset, weight in zip(wishes, offsets, firmness):
        blocks.append((wish - offset, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (mean, w, n), (other, v, m) = blocks.pop(), blocks.pop()
            blocks.append(((mean * w + other * v) / (w + v), w + v, n + m))
    levels = [mean for mean, _, count in blocks for _ in range(count)]
    return [level + offset for level, offset in zip(levels, offsets)]
