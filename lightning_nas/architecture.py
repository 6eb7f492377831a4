"""What a built network looks like, as data that a page without torch can draw."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "architecture.json"
"""Its name in a trial's folder."""


@dataclass(frozen=True)
class Layer:
    """One step of a network's forward pass: a module that holds no other module that was called, or a function.

    Args:
        name: the module's path in the model, such as `cells.0.op_1`, or the function's name; unique.
        kind: its class or function, such as `Conv2d` or `cat`.
        detail: what tells it from others of its kind, such as `32 -> 64, 3x3, stride 2`; may be empty.
        block: the path of the part it belongs to, by which parameters and FLOPs are summed: the outermost part
            that is more than a list of parts, such as `cells.3`; "" for what the model itself does.
        choice: the label of the choice that put it there; None if it is in every network of the space.
        params: how many numbers it learns; those shared with an earlier layer count there.
        macs: multiply-accumulate operations of one example, what papers mostly call FLOPs; None if unknown.
        shape: of what it puts out, with the batch first; None if that is no single tensor.
    """

    name: str
    kind: str
    detail: str = ""
    block: str = ""
    choice: str | None = None
    params: int = 0
    macs: int | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Architecture:
    """A network as a graph.

    Args:
        layers: in the order in which they run; the inputs are layers of the kind `input`, the outputs of the
            kind `output`.
        edges: pairs of positions in `layers`: the first one's output goes into the second.
        params: of the whole network.
        macs: of the whole network for one example; None if unknown.
        kinds: the classes of the parts that hold layers, by path; of the network itself under "".
    """

    layers: tuple[Layer, ...]
    edges: tuple[tuple[int, int], ...]
    params: int
    macs: int | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Data that JSON can hold; `from_json` takes it back. Fields of layers that say nothing are left out."""
        layers = [
            {name: value for name, value in vars(layer).items() if value != _DEFAULTS[name]}
            for layer in self.layers
        ]
        return {"version": 1, **vars(self), "layers": layers, "kinds": dict(self.kinds)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """What `to_json` gave.

        Raises:
            ValueError: if it is something else, or of a newer version.
        """
        if not isinstance(data, Mapping) or data.get("version") != 1:
            raise ValueError("This is no architecture of version 1.")
        try:
            layers = [Layer(**{**layer, "shape": _shape(layer.get("shape"))}) for layer in data["layers"]]
            edges = [(int(start), int(end)) for start, end in data["edges"]]
            if not all(0 <= place < len(layers) for edge in edges for place in edge):
                raise ValueError("an edge joins layers that are not there")
            return cls(tuple(layers), tuple(edges), data["params"], data["macs"], dict(data.get("kinds", {})))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"This is no architecture: {error}.") from error


def read_architecture(path: Path) -> Architecture:
    """Reads the file that a trial left.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it holds something else.
    """
    return Architecture.from_json(json.loads(path.read_text(encoding="utf-8")))


_DEFAULTS = {each.name: each.default for each in dataclasses.fields(Layer)}


def _shape(shape: Any) -> tuple[int, ...] | None:
    return None if shape is None else tuple(shape)
