"""Which parts of two networks answer to each other, and in what they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lightning_nas.architecture import Layer
from lightning_nas.drawing.folding import Part
from lightning_nas.drawing.words import pretty

Status = Literal["equal", "changed", "added", "removed"]


@dataclass(frozen=True)
class Pair:
    """A part before and after, by their positions; None where there is none."""

    before: int | None
    after: int | None
    status: Status


def align(before: Sequence[Part], after: Sequence[Part]) -> list[Pair]:
    """All parts of both networks in their order, those together that answer to each other.

    Equal parts count most, then those of one kind, then those of one name; of all alignments that keep
    both orders, the one that counts most.

    Source: Needleman and Wunsch, "A general method applicable to the search for similarities in the amino
    acid sequence of two proteins", Journal of Molecular Biology 1970, without a penalty for gaps.
    """
    contents = [_content(part) for part in before], [_content(part) for part in after]
    rows, columns = len(before), len(after)
    likeness = [
        [_likeness(a, b, contents[0][i] == contents[1][j]) for j, b in enumerate(after)]
        for i, a in enumerate(before)
    ]
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            together = best[i + 1][j + 1] + likeness[i][j] if likeness[i][j] else 0.0
            best[i][j] = max(together, best[i + 1][j], best[i][j + 1])
    pairs: list[Pair] = []
    i = j = 0
    while i < rows and j < columns:
        if likeness[i][j] and best[i][j] == best[i + 1][j + 1] + likeness[i][j]:
            is_equal = contents[0][i] == contents[1][j]
            pairs.append(Pair(i, j, "equal" if is_equal else "changed"))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            pairs.append(Pair(i, None, "removed"))
            i += 1
        else:
            pairs.append(Pair(None, j, "added"))
            j += 1
    pairs += [Pair(k, None, "removed") for k in range(i, rows)]
    return pairs + [Pair(None, k, "added") for k in range(j, columns)]


def _content(part: Part) -> object:
    """What makes two parts equal, whatever they are called."""
    return (part.kind, [_words(layer) for layer in part.layers], part.wiring)


def _words(layer: Layer) -> tuple[object, ...]:
    return (layer.kind, layer.detail, layer.params, layer.macs, layer.shape)


def _likeness(before: Part, after: Part, are_equal: bool) -> float:
    """How much two parts answer to each other; 0 if not at all."""
    ends = ("input", "output")
    if before.kind != after.kind and (before.kind in ends or after.kind in ends):
        return 0.0
    name = 0.75 if before.name == after.name else 0.0
    if are_equal:
        return 4.0 + name
    if before.kind == after.kind and before.is_block == after.is_block:
        return 2.0 + name + (before.shape == after.shape)
    return 2 * name


def changes(before: Part, after: Part, parts: Callable[[int, Part, int], Sequence[Part]]) -> list[str]:
    """In what two parts that answer to each other differ, in a few words each.

    Args:
        before, after: the parts.
        parts: `parts(side, part, level)`: what a block consists of, side 0 before and 1 after; level 1 for what
            it calls itself, and so on.
    """
    return _changes(before, after, parts, (before, after)) or ["sizes"]


def _changes(
    before: Part,
    after: Part,
    parts: Callable[[int, Part, int], Sequence[Part]],
    outer: tuple[Part, Part],
    level: int = 1,
) -> list[str]:
    if before.kind != after.kind:
        return [f"{before.kind}, now {after.kind}"]
    if not (before.is_block and after.is_block):
        return _details(before.layers[0], after.layers[0])
    inner = parts(0, before, level), parts(1, after, level)
    found = []
    for pair in align(*inner):
        if pair.after is None and pair.before is not None:
            found.append(f"\u2212 {_inside(inner[0][pair.before], outer[0])}")
        elif pair.before is None and pair.after is not None:
            found.append(f"+ {_inside(inner[1][pair.after], outer[1])}")
        elif pair.status == "changed" and pair.before is not None and pair.after is not None:
            was, now = inner[0][pair.before], inner[1][pair.after]
            words = _changes(was, now, parts, outer, level + 1)
            if now.is_block and was.is_block and was.kind == now.kind:
                found += words
            else:
                found += [f"{_called(now, outer[1])}: {each}" for each in words]
    return list(dict.fromkeys(found)) or ([] if before.wiring == after.wiring else ["other connections"])


def _inside(part: Part, block: Part) -> str:
    """A part of a block, by its name in it and its kind."""
    name = _called(part, block)
    return name if name.endswith(part.kind) else f"{name} {part.kind}"


def _called(part: Part, block: Part) -> str:
    """The label of the choice that a part of a block comes from; else its name in the block."""
    return part.choices[0] if len(part.choices) == 1 else part.name.removeprefix(f"{block.name}.")


def _details(before: Layer, after: Layer) -> list[str]:
    """What two layers of one kind say of themselves; nothing where they differ in sizes alone."""
    if before.detail == after.detail:
        return []
    old, new = before.detail.split(", "), after.detail.split(", ")
    if len(old) == len(new):
        kept = [_ends(a, b) for a, b in zip(old, new) if a != b]
        old, new = [a for a, _ in kept], [b for _, b in kept]
    return [f"{pretty(', '.join(old)) or 'nothing'}, now {pretty(', '.join(new)) or 'nothing'}"]


def _ends(before: str, after: str) -> tuple[str, str]:
    """Of `16 -> 64` and `16 -> 48` only `-> 64` and `-> 48`; other words as they are."""
    (a, arrow, b), (c, other, d) = before.partition(" -> "), after.partition(" -> ")
    if arrow and other and a == c:
        return f"-> {b}", f"-> {d}"
    if arrow and other and b == d:
        return f"{a} ->", f"{c} ->"
    return before, after
