"""The colours of all drawings, for a light and for a dark page.

A drawing names its colours by CSS variables with the light ones as fallbacks, `var(--lnas-ink, #1f2933)`: it is
right in a file of its own, and a page changes it by setting the variables.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "ink": "#1f2933",
    "muted": "#5d6976",
    "line": "#66727f",
    "faint": "#a9b3be",
    "box": "#ffffff",
    "back": "#eef1f5",
    "border": "#c3cbd5",
    "label": "#9a3412",
    "on-fill": "#ffffff",
    "conv": "#2563a8",
    "linear": "#7a4ba0",
    "attention": "#b0306a",
    "norm": "#5b7083",
    "activation": "#4d7a35",
    "pool": "#b5541c",
    "dropout": "#96700a",
    "join": "#1f2933",
    "shape": "#8a8a8a",
    "block": "#1a7f8e",
    "max-pool": "#b5541c",
    "avg-pool": "#96700a",
    "dilated": "#7a4ba0",
    "skip": "#4d7a35",
    "other": "#5b7083",
    "none": "#767676",
    "added": "#1c7c3c",
    "removed": "#b42318",
    "changed": "#9a5b00",
    "added-back": "#e7f5ec",
    "removed-back": "#fdecea",
    "changed-back": "#fdf3e1",
}
"""By the variables' names without `--lnas-`."""

DARK: Mapping[str, str] = {
    "paper": "#15191e",
    "ink": "#e6eaef",
    "muted": "#a3aeba",
    "line": "#8c98a5",
    "faint": "#59646f",
    "box": "#1e242b",
    "back": "#272e37",
    "border": "#414b57",
    "label": "#f4a371",
    "on-fill": "#ffffff",
    "conv": "#2f72bd",
    "linear": "#9868c4",
    "attention": "#cf5590",
    "norm": "#7f95a8",
    "activation": "#679d49",
    "pool": "#d2703a",
    "dropout": "#b58a1c",
    "join": "#aeb9c4",
    "shape": "#7d8791",
    "block": "#1b7f8e",
    "max-pool": "#b8591f",
    "avg-pool": "#8f6a10",
    "dilated": "#8d5cb8",
    "skip": "#4c7d34",
    "other": "#5f7488",
    "none": "#6c757e",
    "added": "#57c17c",
    "removed": "#f0857b",
    "changed": "#e5b04c",
    "added-back": "#16301f",
    "removed-back": "#3a1c1a",
    "changed-back": "#33270f",
}
"""What a dark page sets them to."""


def colour(name: str) -> str:
    """The colour called `name`, as CSS.

    >>> colour("ink")
    'var(--lnas-ink, #1f2933)'
    """
    return f"var(--lnas-{name}, {LIGHT[name]})"


def declarations(colours: Mapping[str, str]) -> str:
    """CSS that sets the variables, for a page's own style.

    >>> declarations({"ink": "#ffffff"})
    '--lnas-ink: #ffffff;'
    """
    return " ".join(f"--lnas-{name}: {value};" for name, value in colours.items())
