"""How drawings write numbers, sizes and the kinds of layers."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_nas.drawing.folding import Part

_FAMILIES = {
    "attention": ("attention",),
    "norm": ("norm",),
    "dropout": ("dropout", "drop"),
    "pool": ("pool", "mean", "amax", "interpolate", "upsample"),
    "activation": (
        "relu", "elu", "silu", "swish", "sigmoid", "tanh", "softmax", "softplus", "mish", "activation", "glu",
    ),
    "conv": ("conv",),
    "linear": ("linear", "matmul", "bmm", "addmm", "einsum", "embedding", "lstm", "gru", "rnn"),
    "join": ("add", "cat", "concat", "mul", "sub", "div", "stack", "sum"),
}  # fmt: skip


def family(kind: str) -> str:
    """The colour of a kind of layer.

    >>> [family(kind) for kind in ("Conv2d", "LayerNorm", "log_softmax", "add", "flatten")]
    ['conv', 'norm', 'activation', 'join', 'shape']
    """
    small = kind.lower()
    for name, words in _FAMILIES.items():
        if name == "join":
            if small in words:
                return name
        elif any(word in small for word in words):
            return name
    return "shape" if kind[:1].islower() else "block"


def count(number: int) -> str:
    """A number of at most four digits, with a letter for thousands, millions and so on.

    >>> [count(n) for n in (0, 650, 16448, 3349342, 528359040, 1_000_000)]
    ['0', '650', '16.4k', '3.35M', '528M', '1M']
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{float(f'{number / size:.3g}'):g}{letter}"
    return str(number)


def size_of(shape: Sequence[int]) -> str:
    """The shape of one example.

    >>> size_of((1, 64, 8, 8)), size_of((1,))
    ('64×8×8', 'number')
    """
    return "\u00d7".join(map(str, shape[1:])) or "number"


def pretty(detail: str) -> str:
    """Arrows and crosses for `->` and `x` between numbers.

    >>> pretty("32 -> 64, 3x3")
    '32 → 64, 3×3'
    """
    letters = list(detail.replace("->", "\u2192"))
    for i in range(1, len(letters) - 1):
        if letters[i] == "x" and letters[i - 1].isdigit() and letters[i + 1].isdigit():
            letters[i] = "\u00d7"
    return "".join(letters).replace(" x ", " \u00d7 ")


def costs(part: Part) -> str:
    """What a part costs, such as `2.11k params · 32.8k MACs`; "" if nothing."""
    words = [f"{count(part.params)} params"] if part.params else []
    words += [f"{count(part.macs)} MACs"] if part.macs else []
    return " \u00b7 ".join(words)


def choices_of(part: Part) -> str:
    """The labels that a part comes from, after a diamond; "" if it is in every network of its space."""
    if not part.choices:
        return ""
    if len(part.choices) == 1:
        return f"\u25c6 {part.choices[0]}"
    starts = {label.rpartition("/")[0] for label in part.choices}
    common = starts.pop() if len(starts) == 1 else ""
    return f"\u25c6 {len(part.choices)} choices" + (f" of {common}" if common else "")


def all_of(part: Part) -> str:
    """Everything that is known of a part, in full."""
    lines = [f"{part.name}: {part.kind}" if part.kind else part.name]
    if part.detail:
        lines.append(pretty(part.detail))
    if part.is_block:
        lines.append(f"{len(part.layers)} layers")
    if part.shape is not None:
        lines.append(f"puts out {size_of(part.shape)}")
    lines.append(f"{part.params:,} parameters")
    if part.macs is not None:
        lines.append(f"{part.macs:,} MACs")
    if part.choices:
        lines.append(f"chosen by {', '.join(part.choices)}")
    return "; ".join(lines)
