"""Files of settings as people write them: JSON or YAML, tabs and trailing commas, and where each key stands.

Only plain data comes out: a tag such as `!!python/object` is an error, and nothing in a file is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightning_nas.errors import ExperimentError

_MAX_BYTES = 4 * 2**20
_MAX_NODES = 200_000

_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')


class ConfigError(ExperimentError):
    """A file of settings is wrong; the message is one line with the file, the line and the key."""


@dataclass(frozen=True)
class Document:
    """What a file holds, and the line of each key.

    Args:
        data: mappings, lists and scalars.
        path: of the file; None for data that came from Python.
        lines: line, from 1, by the path of keys and positions to a value; the key's own line.
    """

    data: Any
    path: Path | None = None
    lines: Mapping[tuple[Any, ...], int] = field(default_factory=dict)

    def error(self, keys: Sequence[Any], message: str) -> ConfigError:
        """An error of one line: the file, the line and the key, then `message`."""
        where = [] if self.path is None else [str(self.path)]
        line = self.lines.get(tuple(keys))
        if line is not None:
            where.append(f"line {line}")
        name = ".".join(map(str, keys))
        if name:
            where.append(f"{name!r}")
        return ConfigError(f"{', '.join(where)}: {message}" if where else message)


def read_document(path: Path) -> Document:
    """The data of a JSON or YAML file.

    Numbers such as 1e-4, which YAML 1.1 takes for text, are numbers.

    Raises:
        ConfigError: if there is no such file, it is neither JSON nor YAML, a key is there twice, or it is
            larger than 4 MiB.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: it has more than {_MAX_BYTES // 2**20} MiB; no file of settings has.")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: it cannot be read as text ({error}).") from None
    return parse_document(text, path)


def parse_document(text: str, path: Path) -> Document:
    """The data of a text, which is that of the file `path` or was it once.

    Raises:
        ConfigError: if it is neither JSON nor YAML, or a key is there twice.
    """
    try:
        return _as_json(text, path) or _as_yaml(text, path)
    except RecursionError:
        raise ConfigError(f"{path}: its values are nested too deeply.") from None


def _as_json(text: str, path: Path) -> Document | None:
    """The document, if it is JSON apart from trailing commas."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        pairs = json.loads(_TRAILING_COMMA.sub(lambda found: found[1] or "", text), object_pairs_hook=_Pairs)
    except ValueError:
        return None
    lines: dict[tuple[Any, ...], int] = {}
    return Document(_plain(pairs, (), path, text, lines), path, lines)


class _Pairs(list[tuple[str, Any]]):
    """The pairs of a JSON object."""


def _plain(
    value: Any, keys: tuple[Any, ...], path: Path, text: str, lines: dict[tuple[Any, ...], int]
) -> Any:
    if isinstance(value, _Pairs):
        result: dict[str, Any] = {}
        for key, item in value:
            here = (*keys, key)
            if len(keys) < 2:  # JSON's reader tells no lines; the first place with this key is shown
                found = re.search(rf"{re.escape(json.dumps(key))}\s*:", text)
                if found is not None:
                    lines[here] = text.count("\n", 0, found.start()) + 1
            if key in result:
                raise Document(None, path, lines).error(here, "the key is there twice.")
            result[key] = _plain(item, here, path, text, lines)
        return result
    if isinstance(value, list):
        return [_plain(item, (*keys, i), path, text, lines) for i, item in enumerate(value)]
    return value


# ---------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with numbers as in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _as_yaml(text: str, path: Path) -> Document:
    loader = _Loader(text.replace("\t", "  "))
    try:
        root = loader.get_single_node()
        if root is None:
            raise ConfigError(f"{path}: it is empty.")
        lines: dict[tuple[Any, ...], int] = {}
        budget = [_MAX_NODES]
        _note_lines(root, (), path, lines, budget)
        return Document(loader.construct_document(root), path, lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{place}: it is neither JSON nor YAML: {error.problem}.") from None
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path}: it is neither JSON nor YAML: {problem}.") from None
    finally:
        loader.dispose()


def _note_lines(
    node: Any, keys: tuple[Any, ...], path: Path, lines: dict[tuple[Any, ...], int], budget: list[int]
) -> None:
    """Notes the line of each key; aliases are followed, so a few of them can stand for very many values."""
    budget[0] -= 1
    if budget[0] < 0:
        raise ConfigError(f"{path}: it has more than {_MAX_NODES} values; no file of settings has.")
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            here = (*keys, key.value if isinstance(key, yaml.ScalarNode) else "?")
            lines[here] = key.start_mark.line + 1
            if here in seen:
                raise Document(None, path, lines).error(here, "the key is there twice.")
            seen.add(here)
            _note_lines(value, here, path, lines, budget)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            here = (*keys, i)
            lines[here] = item.start_mark.line + 1
            _note_lines(item, here, path, lines, budget)
