"""NNI's experiment files: v1, v2 (camelCase) and v3 (snake_case) YAML, or JSON."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nas.hpo.annotated_code import annotated_space
from lightning_nas.hpo.assessors import stopping_rule
from lightning_nas.hpo.command import CommandEvaluator
from lightning_nas.hpo.config_keys import (
    ALGORITHM,
    MEANING,
    PLATFORMS,
    SERVICE,
    TRIAL,
    WITHOUT_EFFECT,
    duration_s,
)
from lightning_nas.hpo.documents import ConfigError, Document, parse_document, read_document
from lightning_nas.hpo.gpus import GPUs
from lightning_nas.hpo.machines import Machine, MachineError, read_machines
from lightning_nas.hpo.space_file import NNISpace, read_space
from lightning_nas.hpo.tuners import MODES, CustomTuner, Tuned, TunerError, make_strategy
from lightning_nas.trial import Mode

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class ExperimentConfig:
    """What an experiment file asks for, checked.

    Args:
        name: of the experiment; None if it has none.
        space: what is searched.
        evaluator: runs the trials.
        tuned: the tuner, as a strategy.
        mode: which way the result is better.
        stopping: the assessor, as a stopping rule; None for none.
        max_trials: in all, over all runs; None for no limit.
        max_duration_s: seconds; None for no limit.
        concurrency: trials at the same time.
        working_directory: where the experiment's folder is to be; None leaves it open.
        machines: of NNI's remote platform; empty for trials on this machine.
        gpus: what a trial needs on those machines; None if the file does not say.
    """

    name: str | None
    space: NNISpace
    evaluator: CommandEvaluator
    tuned: Tuned
    mode: Mode
    stopping: Any
    max_trials: int | None
    max_duration_s: int | None
    concurrency: int
    working_directory: Path | None
    machines: tuple[Machine, ...] = ()
    gpus: float | None = None


def read_config(path: str | Path, text: str | None = None) -> ExperimentConfig:
    """Reads and checks an experiment file of NNI's, whichever version.

    Relative paths are taken from the file's folder. Nothing is run or written, but a tuner of the user's
    own is imported.

    Args:
        path: of the file.
        text: what the file held once; None reads it.

    Raises:
        ConfigError: in one line with the file, the line and the key, if anything is wrong.
    """
    document = read_document(Path(path)) if text is None else parse_document(text, Path(path))
    return _Reader(document).read()


@dataclass(frozen=True)
class _Setting:
    """A value of the file and the keys that lead to it."""

    value: Any
    keys: tuple[Any, ...]


class _Reader:
    def __init__(self, document: Document) -> None:
        assert document.path is not None
        self._document = document
        self._folder = document.path.absolute().parent
        self._is_v1 = False

    def read(self) -> ExperimentConfig:
        if not isinstance(self._document.data, Mapping):
            raise self._document.error(
                (), "an experiment file is a mapping of keys such as trialCommand: ..."
            )
        top = self._section(self._document.data, (), MEANING, WITHOUT_EFFECT)
        self._refuse_what_is_not_there(top)
        trial = self._subsection(top, "trial", TRIAL)
        self._is_v1 = "trial" in top
        service = self._subsection(top, "service", SERVICE)
        self._check_platform(top, service)
        places = {**service, **trial, **top}
        code = self._code(places)
        space = self._space(top, code)
        tuned = self._tuner(top, space)
        if tuned.is_batch:
            space = self._batch(space, top)
        mode, stopping = self._stopping(top, tuned)
        return ExperimentConfig(
            self._text(top, "name"),
            space,
            self._evaluator(
                places, code, space, service, is_annotated=self._switch(top, "annotation"), tuned=tuned
            ),
            tuned,
            mode,
            stopping,
            self._count(top, "max_trials"),
            self._duration(top, "max_duration"),
            self._count(top, "concurrency") or 1,
            self._path(top, "working_directory"),
            self._machines(places),
            self._gpu_share(places),
        )

    # -- sections ----------------------------------------------------------------------------------

    def _section(
        self, data: Any, keys: tuple[Any, ...], known: Mapping[str, str], ignored: Any = ()
    ) -> dict[str, _Setting]:
        """The settings of a mapping by their meaning."""
        if not isinstance(data, Mapping):
            raise self._error(keys, f"it must be a mapping, but is {data!r}.")
        result: dict[str, _Setting] = {}
        for key, value in data.items():
            here = (*keys, key)
            word = str(key).lower().replace("_", "")
            if word in ignored or value is None:
                continue
            if word not in known:
                close = difflib.get_close_matches(word, [*known, *ignored], n=1)
                hint = (
                    f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}."
                )
                raise self._error(here, f"there is no such key{hint}")
            meaning = known[word]
            if meaning in result and meaning != "ignored":
                raise self._error(
                    here, f"it says the same as {result[meaning].keys[-1]!r}; leave one of them out."
                )
            result[meaning] = _Setting(value, here)
        return result

    def _subsection(
        self, top: Mapping[str, _Setting], name: str, known: Mapping[str, str]
    ) -> dict[str, _Setting]:
        if name not in top:
            return {}
        value, keys = top[name].value, top[name].keys
        if isinstance(value, str) and name == "service":  # `training_service: local`
            return {"platform": _Setting(value, keys)}
        if name == "service" and str(
            value.get("platform", "local") if isinstance(value, Mapping) else ""
        ).lower() in (PLATFORMS):
            return {"platform": _Setting(value["platform"], (*keys, "platform"))}
        return self._section(value, keys, known)

    def _refuse_what_is_not_there(self, top: Mapping[str, _Setting]) -> None:
        advice = {
            "multiphase": "trials of several phases are not supported; NNI dropped them too.",
            "shared_storage": "shared storage belongs to other platforms than local; leave it out.",
        }
        for name, message in advice.items():
            if name in top and top[name].value not in (False, "false"):
                raise self._error(top[name].keys, message)

    def _check_platform(self, *sections: Mapping[str, _Setting]) -> None:
        for section in sections:
            if "platform" in section:
                name = str(section["platform"].value).lower()
                if name in PLATFORMS:
                    raise self._error(
                        section["platform"].keys,
                        f"the platform {name} is not run from this file; use local, or give Experiment a runner for "
                        "several machines.",
                    )
                if name not in ("local", "remote"):
                    raise self._error(section["platform"].keys, f"there is no platform {name!r}; use local.")

    # -- the search --------------------------------------------------------------------------------

    def _space(self, top: Mapping[str, _Setting], code: Path) -> NNISpace:
        given = [top[name].keys for name in ("space", "space_file") if name in top]
        if self._switch(top, "annotation"):
            given.append(top["annotation"].keys)
        if len(given) > 1:
            raise self._error(given[0], f"give it or {given[1][-1]!r}, not both.")
        if self._switch(top, "annotation"):
            return annotated_space(code)
        path = self._path(top, "space_file")
        if path is not None:
            if not path.is_file():
                raise self._error(top["space_file"].keys, f"there is no file {path}.")
            return read_space(path)
        if "space" not in top:
            raise self._error(
                (), "it has no search space; give searchSpaceFile, searchSpace or useAnnotation."
            )
        keys = top["space"].keys
        lines = {
            place[len(keys) :]: line
            for place, line in self._document.lines.items()
            if place[: len(keys)] == keys and place != keys
        }
        return read_space(replace(self._document, data=top["space"].value, lines=lines))

    def _tuner(self, top: Mapping[str, _Setting], space: NNISpace) -> Tuned:
        if "tuner" not in top and "advisor" not in top:
            raise self._error((), "it has no tuner; give e.g. tuner: {name: TPE}.")
        if "tuner" in top and "advisor" in top:
            raise self._error(top["advisor"].keys, f"give it or {top['tuner'].keys[-1]!r}, not both.")
        is_advisor = "advisor" in top
        value, keys = (setting := top["advisor" if is_advisor else "tuner"]).value, setting.keys
        section = self._section(value, keys, ALGORITHM)
        arguments = self._arguments(section)
        try:
            if "class" in section and is_advisor:
                raise self._error(
                    keys, "advisors of your own are not run; make it a tuner, or take Hyperband or BOHB."
                )
            if "class" in section:
                return self._custom_tuner(section, arguments, space)
            name = self._text(section, "name")
            if name is None:
                raise self._error(keys, f"it has no name; give e.g. name: {'BOHB' if is_advisor else 'TPE'}.")
            tuned = make_strategy(name, arguments)
            self._check_enough_trials(top, tuned)
            return tuned
        except TunerError as error:
            raise self._error(keys, str(error)) from None

    def _check_enough_trials(self, top: Mapping[str, _Setting], tuned: Tuned) -> None:
        needed, limit = getattr(tuned.stopping, "trials_needed", 0), self._count(top, "max_trials")
        if limit is not None and limit < needed:
            raise self._error(
                top["max_trials"].keys,
                f"the first bracket takes {needed} trials, but it is {limit}; give {needed} or more (a trial that goes "
                "on counts once), or the tuner a smaller budget.",
            )

    def _custom_tuner(
        self, section: Mapping[str, _Setting], arguments: dict[str, Any], space: NNISpace
    ) -> Tuned:
        directory = self._path(section, "code") or self._folder
        if not directory.is_dir():
            raise self._error(section["code"].keys, f"there is no folder {directory}.")
        name = str(section["class"].value)
        if "file" in section:
            file = directory / str(section["file"].value)
            if directory.resolve() not in file.resolve().parents:
                raise self._error(
                    section["file"].keys, f"{file} is outside of the code directory {directory}."
                )
            if not file.is_file():
                raise self._error(section["file"].keys, f"there is no file {file}.")
            relative = file.resolve().relative_to(directory.resolve())
            name = f"{'.'.join(relative.with_suffix('').parts)}.{name}"
        if "." not in name:
            raise self._error(section["class"].keys, "without a file it must be module.Class.")
        tuner = CustomTuner(directory, name, arguments, space)
        tuner.load()
        return Tuned(tuner, MODES.get(arguments.get("optimize_mode")))

    def _stopping(self, top: Mapping[str, _Setting], tuned: Tuned) -> tuple[Mode, Any]:
        """Which way is better, and the stopping rule; the assessor's word counts if the tuner has none."""
        if "assessor" not in top:
            return tuned.mode or tuned.default_mode, tuned.stopping
        keys = top["assessor"].keys
        if tuned.stopping is not None:
            raise self._error(
                keys, f"{type(tuned.stopping).__name__} ends trials itself; leave the assessor out."
            )
        section = self._section(top["assessor"].value, keys, ALGORITHM)
        name, arguments = self._text(section, "name"), self._arguments(section)
        if name is None:
            raise self._error(keys, "it has no name; give e.g. name: Medianstop.")
        mode = tuned.mode or MODES.get(arguments.get("optimize_mode")) or tuned.default_mode
        try:
            return mode, stopping_rule(name, arguments)
        except TunerError as error:
            raise self._error(keys, str(error)) from None

    def _batch(self, space: NNISpace, top: Mapping[str, _Setting]) -> NNISpace:
        keys = top["tuner"].keys
        values = space.parameter_sets()
        if not values or not all(isinstance(value, Mapping) for value in values):
            raise self._error(
                keys, "BatchTuner takes a search space of one choice, whose values are mappings."
            )
        return replace(space, is_batch=True)

    # -- the trials --------------------------------------------------------------------------------

    def _code(self, places: Mapping[str, _Setting]) -> Path:
        code = self._path(places, "code") or self._folder
        if not code.is_dir():
            raise self._error(places["code"].keys, f"the code directory {code} does not exist.")
        return code

    def _evaluator(
        self,
        places: Mapping[str, _Setting],
        code: Path,
        space: NNISpace,
        service: Mapping[str, _Setting],
        *,
        is_annotated: bool,
        tuned: Tuned,
    ) -> CommandEvaluator:
        command = self._text(places, "command")
        if not command or not command.strip():
            raise self._error((), "it has no trial command; give e.g. trialCommand: python main.py.")
        self._check_command(command, code, places["command"].keys)
        if is_annotated and any(_leads_to_code(word, code) for word in shlex.split(command)):
            message = f"annotated code is run from a copy; write paths relative to the code directory {code}."
            raise self._error(places["command"].keys, message)
        return CommandEvaluator(
            command,
            code,
            space,
            self._duration(places, "trial_duration"),
            self._gpus(places, service),
            self._text(places, "name") or "experiment",
            is_annotated=is_annotated,
            has_budget=tuned.stopping is not None,
        )

    def _check_command(self, command: str, code: Path, keys: tuple[Any, ...]) -> None:
        """Refuses a plain command whose program or Python file is not there; a shell's own words pass."""
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise self._error(keys, f"a shell cannot read the command {command!r}: {error}.") from None
        if re.search(r"[;&|<>$`*?()=]", command) or words[0] in (
            "cd",
            "source",
            ".",
            "exec",
            "export",
            "set",
        ):
            return
        program = words[0]
        there = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        found = (code / program).is_file() if "/" in program else shutil.which(program, path=there)
        if not found:
            raise self._error(keys, f"the command {program!r} does not exist.")
        script = next((word for word in words[1:] if not word.startswith("-")), None)
        if (
            "python" in Path(program).name
            and words[1:2] == [script]
            and script
            and not (code / script).exists()
        ):
            raise self._error(keys, f"there is no {script} in the code directory {code}.")

    def _gpus(self, places: Mapping[str, _Setting], service: Mapping[str, _Setting]) -> GPUs | None:
        from lightning_nas.experiment.environment import visible_gpus

        if self._is_remote(places):  # Ray deals them out there
            return None
        number = self._count(places, "gpus", at_least=0)
        per_gpu = self._count(service, "trials_per_gpu") or 1
        if not number:
            return None if number is None else GPUs(0)
        keys = places["gpus"].keys
        visible = visible_gpus()
        if not visible:
            raise self._error(keys, f"trials need {number} GPUs, but this machine has none; set it to 0.")
        if "use_active" not in service and not self._is_v1:
            raise self._error(keys, "with GPUs say in trainingService whether useActiveGpu is true or false.")
        indices = self._indices(service, visible)
        if number > len(indices):
            raise self._error(keys, f"trials need {number} GPUs, but there are {len(indices)} for them.")
        return GPUs(number, tuple(indices), per_gpu, self._switch(service, "use_active"))

    def _is_remote(self, places: Mapping[str, _Setting]) -> bool:
        return "platform" in places and str(places["platform"].value).lower() == "remote"

    def _machines(self, places: Mapping[str, _Setting]) -> tuple[Machine, ...]:
        if not self._is_remote(places):
            return ()
        if "machines" not in places:
            raise self._error(places["platform"].keys, "the platform remote needs a machineList.")
        value, keys = places["machines"].value, places["machines"].keys
        try:
            return read_machines(value)
        except MachineError as error:
            raise self._error((*keys, *error.keys), str(error)) from None

    def _gpu_share(self, places: Mapping[str, _Setting]) -> float | None:
        """The GPUs of a trial on a remote machine; a fraction where several trials share one."""
        number = self._count(places, "gpus", at_least=0)
        if number != 1:
            return number
        return 1 / min((machine.trials_per_gpu for machine in self._machines(places)), default=1)

    def _indices(self, service: Mapping[str, _Setting], visible: Sequence[str]) -> list[str]:
        if "gpu_indices" not in service:
            return list(visible)
        value, keys = service["gpu_indices"].value, service["gpu_indices"].keys
        given = value if isinstance(value, list) else str(value).split(",")
        indices = [str(each).strip() for each in given]
        for index in indices:
            if index not in visible:
                raise self._error(keys, f"there is no GPU {index}; this machine has {', '.join(visible)}.")
        return indices

    # -- single values -----------------------------------------------------------------------------

    def _error(self, keys: Sequence[Any], message: str) -> ConfigError:
        return self._document.error(keys, message)

    def _text(self, section: Mapping[str, _Setting], name: str) -> str | None:
        if name not in section:
            return None
        value = section[name].value
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise self._error(section[name].keys, f"it must be text, but is {value!r}.")
        return str(value)

    def _switch(self, section: Mapping[str, _Setting], name: str) -> bool:
        """True or false; false if it is not there, as in NNI."""
        if name not in section:
            return False
        value, keys = section[name].value, section[name].keys
        if not isinstance(value, bool):
            raise self._error(keys, f"it must be true or false, but is {value!r}.")
        return value

    def _count(self, section: Mapping[str, _Setting], name: str, at_least: int = 1) -> int | None:
        if name not in section:
            return None
        value = section[name].value
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise self._error(
                section[name].keys, f"it must be a whole number of at least {at_least}, but is {value!r}."
            )
        return value

    def _duration(self, section: Mapping[str, _Setting], name: str) -> int | None:
        if name not in section:
            return None
        try:
            return duration_s(section[name].value)
        except ValueError as error:
            raise self._error(section[name].keys, str(error)) from None

    def _path(self, section: Mapping[str, _Setting], name: str) -> Path | None:
        text = self._text(section, name)
        return None if text is None else Path(os.path.normpath(self._folder / Path(text).expanduser()))

    def _arguments(self, section: Mapping[str, _Setting]) -> dict[str, Any]:
        if "args" not in section:
            return {}
        value = section["args"].value
        if not isinstance(value, Mapping):
            raise self._error(section["args"].keys, f"it must be a mapping, but is {value!r}.")
        return dict(value)


def _leads_to_code(word: str, code: Path) -> bool:
    """Whether a word of a command is the absolute path of a folder of code or of a Python file in it."""
    path = Path(word)
    return path == code or (path.suffix == ".py" and code in path.parents)
