"""Search spaces in NNI's format: read from a file or a mapping, and written again."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_nas.errors import SampleError, SpaceError
from lightning_nas.hpo.documents import Document, read_document
from lightning_nas.space import (
    Categorical,
    Condition,
    Domain,
    Float,
    Integer,
    Normal,
    Quantized,
    Sample,
    SearchSpace,
    value_key,
)

_MAX_LABELS = 10_000

FORMS = {
    "choice": "[value, value, ...]",
    "randint": "[low, high] (whole numbers, high not included)",
    "uniform": "[low, high]",
    "quniform": "[low, high, q]",
    "loguniform": "[low, high]",
    "qloguniform": "[low, high, q]",
    "normal": "[mean, deviation]",
    "qnormal": "[mean, deviation, q]",
    "lognormal": "[mean, deviation] (of the logarithm)",
    "qlognormal": "[mean, deviation, q] (mean and deviation of the logarithm)",
}

_MAKE: dict[str, Callable[..., Domain]] = {
    "randint": lambda low, high: Integer(low, high - 1),
    "uniform": Float,
    "quniform": Quantized,
    "loguniform": lambda low, high: Float(low, high, log=True),
    "qloguniform": lambda low, high, q: Quantized(low, high, q, log=True),
    "normal": Normal,
    "qnormal": lambda mean, deviation, q: Normal(mean, deviation, step=q),
    "lognormal": lambda mean, deviation: Normal(mean, deviation, log=True),
    "qlognormal": lambda mean, deviation, q: Normal(mean, deviation, log=True, step=q),
}


@dataclass(frozen=True)
class NNISpace:
    """A search space in NNI's format, as a `SearchSpace` and back.

    A nested choice, whose options are dicts with `_name`, is a label of the options' names, and what is
    inside an option a label `outer/name/inner` that is active if the option is chosen.

    Args:
        space: what strategies search.

    >>> found = read_space({"opt": {"_type": "choice", "_value": [
    ...     {"_name": "adam"}, {"_name": "sgd", "momentum": {"_type": "uniform", "_value": [0, 1]}}]}})
    >>> found.space
    SearchSpace(
      opt               Categorical(['adam', 'sgd'])
      opt/sgd/momentum  Float(low=0.0, high=1.0, log=False, step=None)  if opt is 'sgd'
    )
    >>> found.parameters({"opt": "sgd", "opt/sgd/momentum": 0.9})
    {'opt': {'_name': 'sgd', 'momentum': 0.9}}
    """

    space: SearchSpace
    _plain: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, repr=False)
    """Label -> the values of a choice as the file has them."""
    _nested: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict, repr=False)
    """Label of a nested choice -> name of an option -> key within it -> label."""
    _top: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Key of the file -> label."""
    is_batch: bool = False
    """Whether the values of the only label are the parameters themselves, as NNI's BatchTuner has it."""

    def parameters(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """`sample` as NNI gives it to a trial: by the keys of the file, nested choices as dicts."""
        if self.is_batch:
            (label,) = self._top.values()
            return dict(self._value(label, sample))
        return {key: self._value(label, sample) for key, label in self._top.items()}

    def sample(self, parameters: Mapping[str, Any]) -> Sample:
        """The sample that a trial's parameters stand for.

        Raises:
            SampleError: if they are not of this space.
        """
        result: Sample = {}
        self._collect(self._top, parameters, result)
        return self.space.check(result)

    def parameter_sets(self) -> list[Any]:
        """The values of the only choice, those that NNI's BatchTuner tries; empty if there is no such choice."""
        labels = list(self.space)
        return list(self._plain.get(labels[0], ())) if len(labels) == 1 else []

    def _value(self, label: str, sample: Mapping[str, Any]) -> Any:
        value = sample[label]
        if label in self._nested:
            inner = self._nested[label][value]
            return {"_name": value, **{key: self._value(name, sample) for key, name in inner.items()}}
        if label in self._plain:
            return self._plain[label][self.space[label].index(value)]
        return value

    def _collect(self, labels: Mapping[str, str], parameters: Any, result: Sample) -> None:
        given = set(parameters) - {"_name"} if isinstance(parameters, Mapping) else None
        if given != set(labels):
            raise SampleError(f"Parameters must have the keys {sorted(labels)}, but got {parameters!r}.")
        for key, label in labels.items():
            value = parameters[key]
            if label in self._nested:
                name = value.get("_name") if isinstance(value, Mapping) else None
                if not isinstance(name, str) or name not in self._nested[label]:
                    raise SampleError(
                        f"{key!r} must be a dict with a '_name' among {sorted(self._nested[label])}, but got {value!r}."
                    )
                result[label] = name
                self._collect(self._nested[label][name], value, result)
            elif label in self._plain:
                options = [_key(option) for option in self._plain[label]]
                if _key(value) not in options:
                    raise SampleError(
                        f"{key!r} must be one of {list(self._plain[label])}, but got {value!r}."
                    )
                result[label] = self.space[label].at(options.index(_key(value)))
            else:
                domain = self.space[label]
                is_whole = isinstance(domain, Integer) and isinstance(value, float) and value.is_integer()
                result[label] = int(value) if is_whole else value


def read_space(source: str | Path | Mapping[str, Any] | Document) -> NNISpace:
    """The search space of a file (JSON or YAML), or of what stands in one.

    All ten types: choice (plain or nested), randint, uniform, quniform, loguniform, qloguniform, normal,
    qnormal, lognormal, qlognormal. A value that a choice lists twice is twice as likely.

    Raises:
        ConfigError: in one line with the file and the key, if it is not such a space.
    """
    document = source if isinstance(source, Document) else None
    if document is None:
        document = read_document(Path(source)) if isinstance(source, (str, Path)) else Document(source)
    return _Reader(document).read()


def write_space(space: SearchSpace) -> dict[str, Any]:
    """`space` in NNI's format; `read_space` gives an equal one back wherever a type of NNI's is the same.

    Conditions are written as nested choices, for labels named `outer/option/inner` as `read_space` names
    them. A grid of equally likely numbers becomes a choice.

    Raises:
        SpaceError: if NNI has no such type or condition; the message names the label.
    """
    return {label: _written(space, label) for label in space if label not in space.conditions}


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._domains: dict[str, Domain] = {}
        self._conditions: dict[str, Condition] = {}
        self._plain: dict[str, tuple[Any, ...]] = {}
        self._nested: dict[str, dict[str, dict[str, str]]] = {}

    def read(self) -> NNISpace:
        data = self._document.data
        if not isinstance(data, Mapping):
            raise self._document.error(
                (),
                'a search space is a mapping such as {"lr": {"_type": "loguniform", "_value": [0.0001, 0.1]}}, but '
                f"this is a {type(data).__name__}.",
            )
        if len(data) > _MAX_LABELS:
            raise self._document.error((), f"it has {len(data)} keys; at most {_MAX_LABELS} are searched.")
        top = {key: self._label(key, (key,), key, None) for key in data}
        try:
            space = SearchSpace(self._domains, self._conditions)
        except SpaceError as error:
            raise self._document.error((), str(error)) from None
        return NNISpace(space, self._plain, self._nested, top)

    def _label(self, label: Any, keys: tuple[Any, ...], key: Any, condition: Condition | None) -> str:
        """Reads one entry; returns its label."""
        if not isinstance(key, str):
            raise self._document.error(keys, f"a key is text, but {key!r} is a {type(key).__name__}.")
        entry: Any = self._document.data
        for each in keys:
            entry = entry[each]
        if not isinstance(entry, Mapping) or not {"_type", "_value"} <= set(entry):
            raise self._document.error(
                keys, f"it must be a mapping with '_type' and '_value', but is {_short(entry)}."
            )
        kind, value = entry["_type"], entry["_value"]
        if set(entry) != {"_type", "_value"}:
            unknown = sorted(map(str, set(entry) - {"_type", "_value"}))
            raise self._document.error(keys, f"only '_type' and '_value' may stand here, but got {unknown}.")
        if kind not in FORMS:
            raise self._document.error(keys, f"'_type' must be one of {sorted(FORMS)}, but is {kind!r}.")
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise self._document.error(keys, f"{kind} takes {FORMS[kind]}, but got {_short(value)}.")
        if label in self._domains:
            raise self._document.error(keys, f"the label {label!r} is there twice; rename one of them.")
        if len(self._domains) >= _MAX_LABELS:
            raise self._document.error(keys, f"there are more than {_MAX_LABELS} labels.")
        if condition is not None:
            self._conditions[label] = condition
        if kind == "choice":
            self._choice(label, keys, list(value))
        else:
            self._domains[label] = self._number(kind, keys, list(value))
        return str(label)

    def _number(self, kind: str, keys: tuple[Any, ...], value: list[Any]) -> Domain:
        count = FORMS[kind].split("]")[0].count(",") + 1
        is_number = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value)
        if len(value) != count or not is_number or not all(map(math.isfinite, value)):
            raise self._document.error(keys, f"{kind} takes {FORMS[kind]}, but got {_short(value)}.")
        first, second = value[:2]
        rule = None
        if kind == "randint" and not all(float(x).is_integer() for x in value):
            rule = "whole numbers"
        elif not kind.endswith("normal") and not first < second:
            rule = "low < high"
        elif "log" in kind and "uniform" in kind and first <= 0:
            rule = "low > 0"
        elif kind.endswith("normal") and second <= 0:
            rule = "deviation > 0"
        elif count == 3 and value[2] <= 0:
            rule = "q > 0"
        if rule is not None:
            raise self._document.error(
                keys, f"{kind} takes {FORMS[kind]} with {rule}, but got {_short(value)}."
            )
        try:
            return _MAKE[kind](*(map(int, value) if kind == "randint" else value))
        except SpaceError as error:
            raise self._document.error(keys, str(error)) from None

    def _choice(self, label: str, keys: tuple[Any, ...], options: list[Any]) -> None:
        if not options:
            raise self._document.error(keys, "choice takes at least one value, but got an empty list.")
        try:
            if all(isinstance(option, Mapping) and "_name" in option for option in options):
                self._nested_choice(label, keys, options)
                return
            counts = Counter(map(_key, options))
            distinct = list({_key(option): option for option in reversed(options)}.values())[::-1]
            shares = [counts[_key(option)] / len(options) for option in distinct]
            prior = None if len(counts) == len(options) else shares
            # Dicts are told apart by their text, as a Categorical holds no dict.
            self._domains[label] = Categorical([_hashable(option) for option in distinct], prior=prior)
            self._plain[label] = tuple(distinct)
        except SpaceError as error:
            raise self._document.error(keys, str(error)) from None

    def _nested_choice(self, label: str, keys: tuple[Any, ...], options: list[Mapping[str, Any]]) -> None:
        names = [option["_name"] for option in options]
        if not all(isinstance(name, str) for name in names):
            raise self._document.error(keys, f"'_name' of each option must be text, but got {names}.")
        self._domains[label] = Categorical(names)
        self._nested[label] = {}
        for i, option in enumerate(options):
            place = (*keys, "_value", i)
            inner = {
                key: self._label(
                    f"{label}/{names[i]}/{key}", (*place, key), key, Condition({label: [names[i]]})
                )
                for key in option
                if key != "_name"
            }
            self._nested[label][names[i]] = inner


def _written(space: SearchSpace, label: str) -> dict[str, Any]:
    domain = space[label]
    dependants = [name for name, condition in space.conditions.items() if label in condition.labels]
    if dependants:
        return {"_type": "choice", "_value": [_option(space, label, name, dependants) for name in domain]}
    kind, value = _type_of(domain, label)
    return {"_type": kind, "_value": value}


def _option(space: SearchSpace, label: str, name: Any, dependants: Sequence[str]) -> dict[str, Any]:
    result: dict[str, Any] = {"_name": name}
    if not isinstance(name, str) or getattr(space[label], "prior", None) is not None:
        raise SpaceError(f"{label!r} has labels that depend on it, so NNI needs names without a prior.")
    for other in dependants:
        owner = next((n for n in space[label] if space.conditions[other] == Condition({label: [n]})), None)
        prefix = f"{label}/{owner}/"
        if owner is None or not other.startswith(prefix):
            raise SpaceError(
                f"{other!r} is active if {space.conditions[other]}; NNI knows only labels inside one option, which are "
                f"named {label}/OPTION/NAME here."
            )
        if owner == name:
            result[other.removeprefix(prefix)] = _written(space, other)
    return result


def _type_of(domain: Domain, label: str) -> tuple[str, list[Any]]:
    if isinstance(domain, Categorical) and domain.prior is None:
        return "choice", json.loads(json.dumps(list(domain)))
    if isinstance(domain, Quantized):
        return ("qloguniform" if domain.log else "quniform"), [domain.low, domain.high, domain.step]
    if isinstance(domain, Normal):
        kind = ("q" if domain.step else "") + ("log" if domain.log else "") + "normal"
        return kind, [domain.mean, domain.deviation, *([domain.step] if domain.step else [])]
    if isinstance(domain, Float) and domain.size == math.inf:
        return ("loguniform" if domain.log else "uniform"), [domain.low, domain.high]
    if isinstance(domain, Integer) and not domain.log and domain.step == 1:
        return "randint", [domain.low, domain.high + 1]
    if isinstance(domain, (Integer, Float)) and (not domain.log or domain.size == 1):
        return "choice", list(domain)
    raise SpaceError(f"NNI has no type for {label!r}: {domain}.")


def _key(value: Any) -> Any:
    return value_key(_hashable(value))


def _hashable(value: Any) -> Any:
    """`value` with dicts as their JSON text."""
    if isinstance(value, Mapping):
        return "dict " + json.dumps(value, sort_keys=True, default=str)
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
