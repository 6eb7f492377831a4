"""The space of a sweep: domains for the dotted keys of a LightningCLI config, and choices of classes."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_nas.errors import SpaceError
from lightning_nas.hpo.documents import ConfigError, Document, read_document
from lightning_nas.hpo.space_file import FORMS, NNISpace, read_space
from lightning_nas.space import Categorical, Domain, Sample, SearchSpace

_LISTED = 256  # values of a range that are all tried before a sweep begins

_Keys = tuple[Any, ...]


@dataclass(frozen=True)
class SweepSpace:
    """What is searched, and how a sample changes a config.

    Args:
        space: what strategies search. A label is a dotted key; one inside an option of a choice of classes
            is `key/option/argument`, active if the option is chosen.
        document: where it was read, for messages.

    >>> found = read_sweep_space({
    ...     "model.lr": {"loguniform": [1e-4, 0.1]},
    ...     "optimizer": {"choice": [
    ...         {"class_path": "torch.optim.SGD", "init_args": {"nesterov": False, "momentum": {"uniform": [0, 1]}}},
    ...         {"class_path": "torch.optim.Adam"}]}})
    >>> list(found.space)
    ['model.lr', 'optimizer', 'optimizer/torch.optim.SGD/momentum']
    >>> found.changes({"model.lr": 0.01, "optimizer": "torch.optim.Adam"})
    {'model.lr': 0.01, 'optimizer': {'class_path': 'torch.optim.Adam', 'init_args': {}}}
    """

    space: SearchSpace
    document: Document = field(default_factory=lambda: Document({}), repr=False)
    _read: NNISpace | None = field(default=None, repr=False)
    _options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Label of a choice of classes -> name of an option -> what is fixed of it."""
    _places: Mapping[str, _Keys] = field(default_factory=dict, repr=False)
    """Label -> where the document has it."""

    def changes(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The values, by dotted key of the config, that `sample` stands for; a class is `{class_path, init_args}`."""
        read = {} if self._read is None else self._read.parameters(sample)
        of_the_file = () if self._read is None else self._read.space
        others = {label: value for label, value in sample.items() if label not in of_the_file}
        return {**{label: self._value(label, value) for label, value in read.items()}, **others}

    def probes(self) -> Iterator[tuple[str, Sample]]:
        """Samples that show each value once, with the label it is of; of a long range both ends."""
        for label, domain in self.space.items():
            for value in _values(domain):
                yield label, self.space.complete({**self._parents(label), label: value})

    def error(self, label: str, message: str) -> ConfigError:
        """An error with the file, the line and the key of `label`."""
        return self.document.error(self._places.get(label, (label,)), message)

    def _value(self, label: str, value: Any) -> Any:
        if label not in self._options:
            return value
        name = value["_name"]
        result = copy.deepcopy(self._options[label][name])
        for key, inner in value.items():
            if key != "_name":
                put(result["init_args"], key, self._value(f"{label}/{name}/{key}", inner))
        return result

    def _parents(self, label: str) -> Sample:
        """Values under which `label` is active."""
        condition = self.space.conditions.get(label)
        result: Sample = {}
        for name, values in condition.clauses[0].items() if condition is not None else ():
            result |= {**self._parents(name), name: values[0]}
        return result


def read_sweep_space(source: str | Path | Mapping[str, Any]) -> SweepSpace:
    """The space in a file (YAML or JSON), or in a mapping of dotted keys.

    A domain is `{TYPE: VALUE}` with a type of NNI's ten, such as `{loguniform: [0.0001, 0.1]}`, or in NNI's own
    form `{_type: TYPE, _value: VALUE}`. Options of a choice may be `{class_path, init_args}`; among the
    `init_args` there may be domains again, at any depth, and values that stay fixed. Keys may be nested
    instead of dotted. In Python a key may also have a `Domain`, and a whole `SearchSpace` will do.

    Raises:
        ConfigError: in one line with the file and the key, if it is not such a space.
    """
    if isinstance(source, SearchSpace):
        return SweepSpace(source)
    document = read_document(Path(source)) if isinstance(source, (str, Path)) else Document(dict(source))
    return _Reader(document).read()


class _Reader:
    """Turns a sweep's file into one of NNI's, which its reader reads, and keeps what that has no place for."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._lines: dict[_Keys, int] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._places: dict[str, _Keys] = {}
        self._domains: dict[str, Domain] = {}

    def read(self) -> SweepSpace:
        data = self._document.data
        if not isinstance(data, Mapping) or not data:
            raise self._document.error(
                (),
                "a sweep's space is a mapping such as {model.lr: {loguniform: [0.0001, 0.1]}}, but this is "
                f"{'empty' if isinstance(data, Mapping) else f'a {type(data).__name__}'}.",
            )
        forms, _ = self._entries(data, (), "", (), is_option=False)
        self._check_apart()
        read = read_space(Document(forms, self._document.path, self._lines))
        try:
            space = SearchSpace({**read.space, **self._domains}, read.space.conditions)
        except SpaceError as error:
            raise self._document.error((), str(error)) from None
        return SweepSpace(space, self._document, read, self._options, self._places)

    def _entries(
        self, data: Mapping[Any, Any], place: _Keys, prefix: str, target: _Keys, *, is_option: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The domains in `data` in NNI's form, and the other values, both by dotted key.

        Args:
            place: of `data` in the document.
            prefix: of the labels: `label/option/`.
            target: where NNI's form of it has these entries.
            is_option: whether values that are no domain stay fixed, or are mistakes.
        """
        forms: dict[str, Any] = {}
        fixed: dict[str, Any] = {}
        for key, value, here in _flat(data, place):
            label = f"{prefix}{key}"
            if label in self._places:
                raise self._document.error(here, "the key is there twice.")
            form = _form(value)
            if form is None and not isinstance(value, Domain):
                if not is_option:
                    raise self._document.error(here, _no_domain(key, value))
                fixed[key] = value
                continue
            self._places[label] = here
            if form is None:
                if is_option:
                    raise self._document.error(
                        here, "inside a choice of classes write {uniform: [0, 1]} or the like."
                    )
                self._domains[label] = value
                continue
            kind, content, inner = form
            self._lines |= {(*target, key): line for line in [self._line(here)] if line is not None}
            if kind == "choice" and isinstance(content, list) and any(map(_is_class, content)):
                content = self._classes(content, (*here, inner), label, (*target, key, "_value"))
            forms[key] = {"_type": kind, "_value": content}
        return forms, fixed

    def _classes(self, options: list[Any], place: _Keys, label: str, target: _Keys) -> list[dict[str, Any]]:
        """The options of a choice of classes as NNI's nested choice has them."""
        result: list[dict[str, Any]] = []
        self._options[label] = {}
        for i, option in enumerate(options):
            here = (*place, i)
            name = _name(option)
            if not isinstance(name, str):
                raise self._document.error(here, f"a class_path is text, but got {name!r}.")
            if name in self._options[label]:
                raise self._document.error(
                    here, f"the option {name!r} is there twice; give one of them another name, as `_name`."
                )
            if not _is_class(option):
                self._options[label][name] = option
                result.append({"_name": name})
                continue
            unknown = sorted(map(str, option.keys() - {"class_path", "init_args", "dict_kwargs", "_name"}))
            arguments = option.get("init_args") or {}
            if unknown or not isinstance(arguments, Mapping):
                wrong = f"got {unknown}" if unknown else f"init_args is {arguments!r}"
                raise self._document.error(
                    here, f"an option is {{class_path: ..., init_args: {{...}}}}, but {wrong}."
                )
            forms, fixed = self._entries(
                arguments, (*here, "init_args"), f"{label}/{name}/", (*target, i), is_option=True
            )
            kept = {key: value for key, value in option.items() if key not in ("_name", "init_args")}
            kept["init_args"] = {}
            for key, value in fixed.items():
                put(kept["init_args"], key, value)
            self._options[label][name] = kept
            result.append({"_name": name, **forms})
        return result

    def _check_apart(self) -> None:
        """Refuses a key within another one that is searched as a whole."""
        tops = [label for label in self._places if "/" not in label]
        for label in tops:
            for other in tops:
                if label.startswith(f"{other}."):
                    raise self._document.error(
                        self._places[label],
                        f"it lies within {other!r}, which is searched too; write it into the init_args of its options.",
                    )

    def _line(self, place: _Keys) -> int | None:
        return self._document.lines.get(place)


def _flat(data: Mapping[Any, Any], place: _Keys, prefix: str = "") -> Iterator[tuple[str, Any, _Keys]]:
    """Dotted keys, values and places; mappings are walked into unless they are domains."""
    for key, value in data.items():
        here = (*place, key)
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and _form(value) is None:
            yield from _flat(value, here, f"{name}.")
        else:
            yield name, value, here


def _form(value: Any) -> tuple[Any, Any, str] | None:
    """Type and value of a domain, and the key of the value; None if it is none."""
    if not isinstance(value, Mapping):
        return None
    if "_type" in value:
        return value["_type"], value.get("_value"), "_value"
    (word,) = value if len(value) == 1 else (None,)
    return (word, value[word], str(word)) if word in FORMS else None


def _is_class(option: Any) -> bool:
    return isinstance(option, Mapping) and "class_path" in option


def _name(option: Any) -> Any:
    if _is_class(option):
        return option.get("_name", option["class_path"])
    return option if isinstance(option, str) else json.dumps(option, default=str)


def _no_domain(key: str, value: Any) -> str:
    word = key.rpartition(".")[2]
    close = difflib.get_close_matches(word, FORMS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the types are {', '.join(FORMS)}."
    return f"it must be a domain, such as {{loguniform: [0.0001, 0.1]}} or {{choice: [1, 2]}}, but is {value!r}; {hint}"


def _values(domain: Domain) -> list[Any]:
    """All values of a choice or of a short range, the ends of any other."""
    if isinstance(domain, Categorical) or domain.size <= _LISTED:
        return list(domain)
    return [getattr(domain, name) for name in ("low", "high") if hasattr(domain, name)] or [domain.default]


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value of a dotted key in nested dicts. Changes `tree`."""
    *parents, last = key.split(".")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[last] = value
