"""What a network looks like: its layers, their sizes and costs, and what goes from one into another.

The network is not traced but watched, in one forward pass that computes nothing (see `forward_tape`): so
loops, conditions and arguments of any kind do no harm, and what is seen is what ran.
"""

from __future__ import annotations

import collections
import inspect
import itertools
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Layer
from lightning_nas.evaluators.forward_tape import Call, ForwardTape
from lightning_nas.evaluators.layer_words import module_words, unique
from lightning_nas.mutables import origin_of
from lightning_nas.mutables.probe import untouched_random_states
from lightning_nas.mutables.tracing import leaves, replaced


def architecture_of(
    model: nn.Module, inputs: Sequence[Any] = (), named: Mapping[str, Any] | None = None
) -> Architecture:
    """The graph of a network's forward pass in evaluation mode.

    Modules without parts are layers, and so are functions that a module with parts calls itself. A
    module whose parts do not tell where its output comes from is one layer as well.

    Args:
        model: left as it is, as are its mode, its gradients and all random states; on any device.
        inputs, named: what `forward` takes, by position and by name; tensors have the batch first, and
            one example of it is used where the network can do with one.

    Raises:
        ValueError: if the network cannot be copied or run; the message says why.

    Example:
        >>> import torch
        >>> found = architecture_of(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), [torch.zeros(1, 4)])
        >>> [(layer.name, layer.kind, layer.detail, layer.macs) for layer in found.layers[1:-1]]
        [('0', 'Linear', '4 -> 8', 32), ('1', 'ReLU', '', 0)]
        >>> found.edges
        ((0, 1), (1, 2), (2, 3))
    """
    args, kwargs = tuple(inputs), dict(named or {})
    batch = next((len(x) for x in leaves([args, kwargs]) if isinstance(x, Tensor) and x.ndim), 1)

    def first(value: Any) -> Any:
        is_batch = isinstance(value, Tensor) and value.ndim > 0 and len(value) == batch
        return value[:1] if is_batch else value

    one = replaced([args, kwargs], first)
    failure: Exception | None = None
    found: Architecture | None = None
    tries = itertools.product(_devices(model, one), ((one, 1), ([args, kwargs], batch)))
    for device, (given, examples) in tries:
        try:
            with untouched_random_states(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the training has said it already
                tape = ForwardTape(model, device)
                tape.run(given[0], given[1], _argument_names(model))
            if tape.is_counted or found is None:
                found = _assembled(model, tape, examples)
            if tape.is_counted:
                return found
        except Exception as error:
            failure = error
    if found is not None:
        return found
    raise ValueError(
        f"{type(model).__name__} cannot be looked into: {type(failure).__name__}: {failure}"
    ) from failure


def _devices(model: nn.Module, inputs: Any) -> tuple[str, ...]:
    """Where to run: on the meta device nothing is computed, on the CPU all that the network reads is there.

    The meta device takes some 50 us for each function, which is more than a small network needs; and a very
    large one would take too long on the CPU.
    """
    params = sum(parameter.numel() for parameter in model.parameters())
    size = sum(x.numel() for x in leaves(inputs) if isinstance(x, Tensor))
    if params <= _SMALL and size <= _SMALL_INPUTS:
        return ("cpu", "meta")
    return ("meta", "cpu") if params <= _LARGE else ("meta",)


_SMALL, _LARGE = 200_000, 50_000_000  # parameters
_SMALL_INPUTS = 4_096  # numbers in one example


def _argument_names(model: nn.Module) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds]


def _assembled(model: nn.Module, tape: ForwardTape, examples: int) -> Architecture:
    """The architecture that a tape saw; `examples` is the batch that it was given."""
    kept = _kept(tape.calls)
    calls = [tape.calls[position] for position in kept]
    places = {position: place for place, position in enumerate(kept)}
    modules = dict(model.named_modules())
    sizes = {path: parameter.numel() for path, parameter in model.named_parameters()}
    # What only holds others is no block: it is never called itself, or calls one after another.
    lists = _wrappers(calls)
    inner = {path for call in calls if call.kind not in _ENDS for path in _above(call)}
    lists |= {path for path in inner if path not in tape.composites}
    lists |= {path for path in tape.composites if _is_list_of_blocks(modules[path])}
    layers = []
    seen = set[str]()
    for call, name in zip(calls, unique([_name(call) for call in calls])):
        is_end = call.kind in _ENDS
        own = {path: sizes[path] for path in call.parameters if path not in seen}
        seen.update(own)
        layers.append(
            Layer(
                name,
                call.kind,
                call.detail if call.module is None else module_words(modules[call.path]),
                block="" if is_end else _block(call, lists),
                choice=None if is_end else _choice(call.path, modules),
                params=sum(own.values()),
                macs=None if call.macs is None else call.macs // examples,
                shape=call.shape,
            )
        )
    edges = [
        (places[source], place)
        for place, call in enumerate(calls)
        for source in call.sources
        if source in places
    ]
    macs = [call.macs for call in tape.calls if call.macs is not None]
    return Architecture(
        tuple(layers),
        tuple(edges),
        sum(sizes.values()),
        sum(macs) // examples if tape.is_counted else None,
        {path: kind for path, kind in tape.composites.items() if path in inner},
    )


_ENDS = ("input", "output")


def _kept(calls: Sequence[Call]) -> list[int]:
    """The positions of the calls that count: not those of functions whose result no one uses."""
    needed = set[int]()
    for position in reversed(range(len(calls))):
        call = calls[position]
        if position in needed or call.module is not None or call.macs or call.kind in _ENDS:
            needed.update(call.sources, [position])
    return sorted(needed)


def _name(call: Call) -> str:
    if call.module is not None or call.kind in _ENDS:
        return call.path
    return f"{call.path}.{call.kind}" if call.path else call.kind


def _above(call: Call) -> Iterator[str]:
    """The paths of the modules that a call stands in, its own not among them, from the outermost on."""
    parts = call.path.split(".") if call.path else []
    for length in range(len(parts) + (call.module is None)):
        yield ".".join(parts[:length])


def _wrappers(calls: Sequence[Call]) -> set[str]:
    """The modules that hold most of the calls: the model, and what is too large to be a block of it."""
    held = collections.Counter(path for call in calls if call.kind not in _ENDS for path in _above(call))
    return {""} | {path for path, count in held.items() if 2 * count > held[""]}


def _block(call: Call, lists: Collection[str]) -> str:
    """The outermost module around a call that is more than a list of blocks."""
    return next((path for path in [*_above(call), call.path] if path not in lists), "")


def _is_list_of_blocks(module: nn.Module) -> bool:
    return type(module) is nn.Sequential and any(any(True for _ in part.children()) for part in module)


def _choice(path: str, modules: Mapping[str, nn.Module]) -> str | None:
    """The label of the choice that is responsible for a module, or for what it stands in."""
    while path:
        label = origin_of(modules[path])
        if label is not None:
            return label
        path = path.rpartition(".")[0]
    return None
