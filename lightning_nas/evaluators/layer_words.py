"""What tells a layer from others of its kind, in a few words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

_MOST = 60  # characters
_CONVOLUTIONS = nn.modules.conv._ConvNd
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_POOLS = (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._LPPoolNd)
_ADAPTIVE = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)


def module_words(module: nn.Module) -> str:
    """For layers of torch.nn such as `32 -> 64, 3x3, stride 2`; else what the module says of itself.

    >>> module_words(nn.Conv2d(32, 64, 3, stride=2, padding=1, groups=4))
    '32 -> 64, 3x3, stride 2, groups 4'
    >>> module_words(nn.Linear(256, 10))
    '256 -> 10'
    """
    known: Any = module
    if isinstance(module, _CONVOLUTIONS):
        words = [f"{known.in_channels} -> {known.out_channels}", _size(known.kernel_size)]
        for name, usual in (("stride", 1), ("dilation", 1), ("groups", 1)):
            value = getattr(known, name)
            if set(value if isinstance(value, tuple) else [value]) != {usual}:
                words.append(f"{name} {_size(value, short=True)}")
        if known.transposed:
            words.append("transposed")
    elif isinstance(module, (nn.Linear, nn.Bilinear)):
        words = [f"{getattr(known, 'in_features', None) or known.in1_features} -> {known.out_features}"]
    elif isinstance(module, nn.Embedding):
        words = [f"{known.num_embeddings} x {known.embedding_dim}"]
    elif isinstance(module, nn.MultiheadAttention):
        words = [str(known.embed_dim), f"{known.num_heads} heads"]
    elif isinstance(module, nn.RNNBase):
        words = [f"{known.input_size} -> {known.hidden_size}", f"{known.num_layers} layers"]
        words += ["bidirectional"] if known.bidirectional else []
    elif isinstance(module, nn.modules.dropout._DropoutNd):
        words = [f"p={known.p:g}"]
    elif isinstance(module, _NORMS):
        words = [
            _size(
                getattr(known, "num_features", None)
                or getattr(known, "normalized_shape", None)
                or known.num_channels
            )
        ]
    elif isinstance(module, _POOLS):
        words = [_size(known.kernel_size, square=2)]
        stride = known.stride if known.stride is not None else known.kernel_size
        if stride != known.kernel_size:
            words.append(f"stride {_size(stride, short=True)}")
    elif isinstance(module, _ADAPTIVE):
        words = [f"to {_size(known.output_size, square=2)}"]
    else:
        words = [" ".join(module.extra_repr().replace("inplace=True", "").split())]
    return _cut(", ".join(words))


def name_of_function(function: Callable[..., Any]) -> str:
    """What a function of torch is called, whether as a function, a method or an operator.

    >>> import torch
    >>> [name_of_function(f) for f in (torch.add, torch.Tensor.__radd__, torch.Tensor.add_, torch.Tensor.T.__get__)]
    ['add', 'add', 'add', 'T']
    """
    name = getattr(function, "__name__", type(function).__name__)
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    name = name.strip("_")
    return _OPERATORS.get(name, name)


_OPERATORS = {
    **{f"{kind}{name}": name for kind in "ir" for name in ("add", "sub", "mul", "pow", "matmul", "floordiv")},
    **dict.fromkeys(("truediv", "itruediv", "rtruediv", "rdiv", "idiv"), "div"),
}


def function_words(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a function that are numbers, words or sizes."""
    given = [_value(each) for each in args if _is_plain(each)]
    words = [f"({', '.join(given)})"] if given else []
    named = {name: each for name, each in kwargs.items() if _is_plain(each) and not name.startswith("_")}
    words += [f"{name} {_value(each)}" for name, each in named.items() if (name, each) not in _USUAL]
    return _cut(", ".join(words))


_USUAL = (("padding", 0), ("dilation", 1))


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_plain, value))
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_value, value))})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size(value: Any, short: bool = False, square: int = 1) -> str:
    """`3x3` for (3, 3), which is `3` where it is `short`; a number counts for as many axes as `square` says."""
    sizes = [value] * square if not isinstance(value, (list, tuple)) else list(value)
    words = ["?" if each is None else str(each) for each in sizes]
    return words[0] if short and len(set(words)) == 1 else "x".join(words)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}\u2026"


def unique(names: Sequence[str]) -> Iterator[str]:
    """The names with `_2`, `_3` and so on behind those that came before.

    >>> list(unique(["relu", "conv", "relu"]))
    ['relu', 'conv', 'relu_2']
    """
    taken = set[str]()
    for name in names:
        candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        found = next(each for each in candidates if each not in taken)
        taken.add(found)
        yield found
