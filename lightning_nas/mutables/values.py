"""Values that remember which choice they came from.

While a model space runs at its defaults, a `ValueChoice` is an `int`, `float`, `str` or `tuple` of
a subclass that carries an `Expression` through arithmetic. Code that only wants the number sees
the number; `expression_of` recovers how the number follows from the choices. What Python computes
without asking us is forgotten: `int(x)`, `max(x, y)`, `2.5 * x` for an integer x (write `x * 2.5`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(operator, name)
        for name in (
            "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "xor",
            "neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne", "getitem",
        )
    },
    "and": operator.and_,
    "or": operator.or_,
    "round": round,
    "trunc": math.trunc,
    "floor": math.floor,
    "ceil": math.ceil,
    "int": int,
    "float": float,
    "max": max,
    "min": min,
    "if": lambda condition, then, otherwise: then if condition else otherwise,
    "tuple": lambda *items: items,
    "list": lambda *items: list(items),
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """How a value follows from the choices: a label, or a function of expressions and constants.

    >>> Expression("mul", (Expression.of_label("width"), 2)).evaluate({"width": 16})
    32
    """

    function: str
    arguments: tuple[Any, ...]

    @classmethod
    def of_label(cls, label: str) -> Expression:
        """The value chosen for `label` itself."""
        return cls("label", (label,))

    @property
    def labels(self) -> frozenset[str]:
        """The labels it depends on."""
        if self.function == "label":
            return frozenset(self.arguments)
        parts = (a.labels for a in self.arguments if isinstance(a, Expression))
        return frozenset().union(*parts)

    def evaluate(self, sample: Mapping[str, Any]) -> Any:
        """The value under `sample`, which must hold all of `labels`."""
        if self.function == "label":
            return sample[self.arguments[0]]
        arguments = (a.evaluate(sample) if isinstance(a, Expression) else a for a in self.arguments)
        return _FUNCTIONS[self.function](*arguments)


class Traced:
    """Mixed into `int`, `float`, `str` and `tuple`: the value with its `expression`."""

    expression: Expression
    plain: Callable[[], Any]

    # Copies and pickles are plain: the memory of a choice does not outlive its constructor.
    def __reduce_ex__(self, protocol: Any) -> Any:
        plain = self.plain()
        return (type(plain), (plain,))

    def __deepcopy__(self, memo: Any) -> Any:
        return self


def plain(value: Any) -> Any:
    """`value` without its expression; anything else as it is."""
    return value.plain() if isinstance(value, Traced) else value


def traced(value: Any, expression: Expression) -> Any:
    """`value` with its expression, if it is of a type that can carry one; else `value`."""
    kind = _TRACED.get(type(value))
    if kind is None:
        return value
    result = kind(value)
    result.expression = expression
    return result


def apply(function: str, *arguments: Any) -> Any:
    """Applies a function of the table to plain values and traces the result if any argument was."""
    result = _FUNCTIONS[function](*map(plain, arguments))
    if not any(isinstance(a, Traced) for a in arguments):
        return result
    return traced(result, Expression(function, tuple(_as_argument(a) for a in arguments)))


def expression_of(value: Any) -> Expression | None:
    """How `value` follows from the choices, looking into tuples and lists; None if it does not."""
    if isinstance(value, Traced):
        return value.expression
    if isinstance(value, (tuple, list)):
        parts = [expression_of(item) for item in value]
        if any(part is not None for part in parts):
            items = tuple(item if part is None else part for item, part in zip(value, parts))
            return Expression("tuple" if isinstance(value, tuple) else "list", items)
    return None


def _as_argument(value: Any) -> Any:
    return value.expression if isinstance(value, Traced) else value


def _binary(function: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return apply(function, self, other)

    return method


def _reflected(function: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return apply(function, other, self)

    return method


def _unary(function: str) -> Callable[..., Any]:
    def method(self: Any, *arguments: Any) -> Any:
        return apply(function, self, *arguments)

    return method


_COMPARISONS = {f"__{f}__": _binary(f) for f in ("lt", "le", "gt", "ge", "eq", "ne")}
_NUMBERS: dict[str, Any] = {
    **_COMPARISONS,
    **{f"__{f}__": _binary(f) for f in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")},
    **{f"__r{f}__": _reflected(f) for f in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")},
    **{f"__{f}__": _unary(f) for f in ("neg", "pos", "abs", "round", "trunc", "floor", "ceil")},
}
_BITS: dict[str, Any] = {
    **{f"__{f}__": _binary(f) for f in ("lshift", "rshift", "and", "or", "xor")},
    **{f"__r{f}__": _reflected(f) for f in ("lshift", "rshift", "and", "or", "xor")},
    "__invert__": _unary("invert"),
}


def _subclass(name: str, base: type, methods: Mapping[str, Any], plain_type: type | None = None) -> type:
    make_plain = plain_type or base
    body = {
        **methods,
        "__hash__": base.__hash__,
        "plain": lambda self: make_plain(base(self)),
        "__doc__": f"A `{make_plain.__name__}` that remembers the choices it came from.",
    }
    return type(name, (Traced, base), body)


TracedInt = _subclass("TracedInt", int, {**_NUMBERS, **_BITS})
# `bool` cannot be subclassed: a comparison gives an int of 0 or 1 that prints as a bool.
TracedBool = _subclass(
    "TracedBool",
    int,
    {
        **_NUMBERS,
        **_BITS,
        "__repr__": lambda self: repr(self.plain()),
        "__str__": lambda self: str(self.plain()),
    },
    plain_type=bool,
)
TracedFloat = _subclass("TracedFloat", float, _NUMBERS)
TracedStr = _subclass(
    "TracedStr", str, {**_COMPARISONS, "__add__": _binary("add"), "__radd__": _reflected("add")}
)
TracedTuple = _subclass("TracedTuple", tuple, {"__getitem__": _binary("getitem")})

_TRACED: dict[type, Any] = {
    int: TracedInt,
    bool: TracedBool,
    float: TracedFloat,
    str: TracedStr,
    tuple: TracedTuple,
}
