"""The user's own LightningCLI: its parser resolves configs, and a trial is a run of it."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import inspect
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from lightning_nas.evaluators.interrupts import ctrl_c_raises
from lightning_nas.evaluators.roots import DEFAULT, root_of
from lightning_nas.hpo.documents import ConfigError, read_document
from lightning_nas.hpo.sweep_space import put
from lightning_nas.loading import load

_FIT = "fit"
# Lines of jsonargparse's messages that tell what was tried, not what is wrong.
_NOISE = (
    "Does not validate against", "- Does not validate against", "Subtypes:", "Errors:", "Given value", "Parser key ",
    "- Expected a path", "- Expected a <class 'NoneType'>",
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """A program that makes a LightningCLI, run in this process as if it had been started by itself.

    Args:
        cli: a script such as "main.py"; "module:name" for something in a module to call, such as a subclass
            of LightningCLI or a `main`; or what is to be called itself.

    Raises:
        ConfigError: if there is no such script.
    """

    cli: str | Callable[[], Any]

    def __post_init__(self) -> None:
        if isinstance(self.cli, str) and self._is_script and not Path(self.cli).is_file():
            raise ConfigError(
                f"{self.cli}: there is no such file; give the script that makes your LightningCLI."
            )
        if isinstance(self.cli, str) and self._is_script:
            object.__setattr__(self, "cli", str(Path(self.cli).absolute()))

    @property
    def _is_script(self) -> bool:
        return isinstance(self.cli, str) and (self.cli.endswith(".py") or ":" not in self.cli)

    @contextlib.contextmanager
    def surroundings(self) -> Iterator[None]:
        """The process as the program knows it within the block: its arguments, path and `__main__`; then as before."""
        argv, path, main = sys.argv, list(sys.path), sys.modules["__main__"]
        environment = dict(os.environ)  # Lightning puts the seed there
        try:
            yield
        finally:
            sys.argv, sys.path[:], sys.modules["__main__"] = argv, path, main
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)

    def parser(self) -> Any:
        """The parser that the program makes; nothing after it is run. Call it within `surroundings`.

        Raises:
            ConfigError: if the program fails before, or makes none.
        """
        from jsonargparse import capture_parser

        try:
            return capture_parser(self._start, [])
        except (Exception, SystemExit) as error:
            if type(error).__name__ == "CaptureParserException":
                raise ConfigError(f"{self._title}: it makes no LightningCLI.") from None
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{self._title}: it cannot be run ({type(error).__name__}: {reason})."
            ) from error

    def run(self, arguments: Sequence[str]) -> None:
        """Runs it to its end. Call it within `surroundings`.

        Raises:
            SystemExit: if it ends with an exit code other than 0.
            Exception: what it raises.
        """
        try:
            with ctrl_c_raises():
                self._start(arguments)
        except SystemExit as error:
            if error.code:
                raise

    @property
    def _title(self) -> str:
        return self.cli if isinstance(self.cli, str) else getattr(self.cli, "__name__", repr(self.cli))

    def _start(self, arguments: Sequence[str]) -> None:
        sys.argv = [self._title, *arguments]
        if not isinstance(self.cli, str):
            self.cli()
        elif self._is_script:
            script = Path(self.cli)
            sys.path.insert(0, str(script.parent))
            module = ModuleType("__main__")
            module.__file__ = str(script)
            sys.modules["__main__"] = module
            exec(compile(script.read_bytes(), script, "exec"), module.__dict__)
        else:
            load(self.cli, os.getcwd())()


def default_cli(config: Path) -> str:
    """The LightningCLI without classes of its own, for a config that names them, from the model's Lightning.

    Raises:
        ConfigError: if the config has no class of a model.
    """
    document = read_document(config)
    model = document.data.get("model") if isinstance(document.data, Mapping) else None
    path = model.get("class_path") if isinstance(model, Mapping) else model
    if not isinstance(path, str):
        raise document.error(
            (),
            "it has no `model: {class_path: ...}`, so the program with your LightningCLI is needed: --cli main.py.",
        )
    if path.endswith((".yaml", ".yml", ".json")):  # a config of its own
        return f"{DEFAULT}.cli:LightningCLI"
    module, _, name = path.rpartition(".")
    sys.path.insert(0, os.getcwd())
    try:
        found = load(f"{module}:{name}") if module else None
    except (ImportError, AttributeError) as error:
        raise document.error(("model", "class_path"), f"{path!r} cannot be imported ({error}).") from None
    finally:
        sys.path.remove(os.getcwd())
    return f"{root_of(found) or DEFAULT}.cli:LightningCLI"


class Resolver:
    """Resolves a config by a program's parser, so that links, defaults and types are those of the program.

    Args:
        parser: the program's.
        config: the file.
    """

    def __init__(self, parser: Any, config: Path) -> None:
        parser.exit_on_error = False
        self._parser = parser
        self._config = config

    @property
    def root(self) -> str:
        """The Lightning that it is of."""
        return root_of(self._parser) or DEFAULT

    @property
    def subcommand(self) -> list[str]:
        """What stands before the options: `fit`, or nothing for a LightningCLI(run=False)."""
        return [_FIT] if self._parser._subparsers is not None else []  # argparse has no public name for it

    def resolve(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The whole config with `changes`, each default written out; the program reads it as it read the first.

        Args:
            changes: by dotted key; a class that takes the place of another keeps those of its `init_args`
                that it has too, as on the command line.

        Raises:
            ConfigError: in one line, if the parser refuses it.
        """
        arguments = [*self.subcommand, "--config", str(self._config)]
        # Apart, as one config may not name some arguments of a class with `init_args` and others without.
        for is_long in (True, False):
            tree: dict[str, Any] = {}
            for key, value in changes.items():
                if ("init_args" in key.split(".")) is is_long:
                    put(tree, key, value)
            if tree:
                arguments += ["--config", json.dumps(tree)]
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # which init_args a new class does not take over
                parsed = self._parser.parse_args(arguments)
                text = self._parser.dump(parsed, **_everything(self._parser))
        except (SystemExit, argparse.ArgumentError) as error:
            message = (
                said.getvalue().rpartition("error: ")[2] if isinstance(error, SystemExit) else str(error)
            )
            raise ConfigError(_one_line(message)) from None
        data = yaml.safe_load(text)
        result: dict[str, Any] = data[_FIT] if self.subcommand else data
        return result


def has_key(config: Mapping[str, Any], key: str) -> bool:
    """Whether a whole config has a dotted key; `init_args` may be left out, as on the command line."""
    return _short(key) in map(_short, _keys(config))


def nearest_key(config: Mapping[str, Any], key: str) -> str | None:
    """The key of a whole config that is spelt most like `key`, None if there is none like it."""
    return next(iter(difflib.get_close_matches(key, list(_keys(config)), n=1)), None)


def _keys(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


def _short(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in ("init_args", "dict_kwargs"))


def _everything(parser: Any) -> dict[str, bool]:
    """The argument of `dump` with which values that are null are written too; its name depends on the version."""
    name = "skip_unset" if "skip_unset" in inspect.signature(type(parser).dump).parameters else "skip_none"
    return {name: False}


def _one_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    wrong = [line.removeprefix("- ") for line in lines if not line.startswith(_NOISE)]
    return " ".join(wrong or lines)
