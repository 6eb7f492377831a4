"""Script trials: an evaluator that runs a user's command and listens to what it reports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_nas.errors import ExperimentError, MetricError
from lightning_nas.hpo import shim
from lightning_nas.hpo.annotated_code import annotated_copy
from lightning_nas.hpo.gpus import GPUs
from lightning_nas.hpo.space_file import NNISpace
from lightning_nas.trial import Candidate, Metrics, Report, as_metrics

STDOUT, STDERR = "trial.stdout", "trial.stderr"
"""What a script prints, in the trial's folder."""

BUDGET = "TRIAL_BUDGET"
"""The parameter that says how long a trial is to train."""

_POLL_S = 0.02
_TERM_S = 5.0  # between SIGTERM and SIGKILL
_SHOWN_LINES = 20
_HEADER = 8  # bytes: ME and six digits
# Ends a command and all it has started once its standard input is closed, as happens however the trial's
# process ends. $1 is the process group.
_WATCH = 'read _; kill -s TERM -- "-$1" 2>/dev/null && sleep 5 && kill -s KILL -- "-$1" 2>/dev/null'


class TrialFailed(ExperimentError):
    """A trial's command failed; the message says how, and what it printed last."""


@dataclass(frozen=True)
class CommandEvaluator:
    """Runs a command for each trial: a script that uses NNI's trial API.

    The script finds its parameters and reports its results by `import nni`, whether NNI is installed or
    not. What it prints is in `trial.stdout` and `trial.stderr` of the trial's folder, which is also its
    NNI_OUTPUT_DIR. It runs in a process group of its own, which ends with the trial.

    Args:
        command: as given to a shell.
        directory: where it runs, the script's own folder.
        space: turns samples into the parameters that the script expects; None hands on the sample.
        max_duration_s: seconds after which a trial is ended; its last intermediate result then counts.
        gpus: which GPUs the trials get; None leaves CUDA_VISIBLE_DEVICES as it is.
        experiment: its name, for the script.
        environment: further environment variables.
        is_annotated: whether the scripts have NNI's annotations; then a copy of `directory` is run, beside the
            trial's folder, in which they are code.
        has_budget: whether the script is told how long to train, as `TRIAL_BUDGET` among its parameters, and
            trains from its beginning (or from what it left in NNI_OUTPUT_DIR) until then. It is asked for under a
            rule such as Hyperband, which counts the budget as so many steps: a final result is the report of the
            last, and of the intermediate ones those count that belong to steps not yet taken.

    Under a rule that pauses trials, a script is ended where it is to pause and runs again from its beginning where
    it is to go on, with the same sample, number and folder; its reports are numbered from 0 again.
    """

    command: str
    directory: Path = Path()
    space: NNISpace | None = None
    max_duration_s: float | None = None
    gpus: GPUs | None = None
    experiment: str = "experiment"
    environment: Mapping[str, str] = field(default_factory=dict)
    is_annotated: bool = False
    has_budget: bool = False

    def __post_init__(self) -> None:
        if not self.command.strip():
            raise ValueError("`command` must be what starts a trial, e.g. 'python main.py', but got ''.")
        object.__setattr__(self, "directory", Path(self.directory).absolute())
        if self.max_duration_s is not None and not self.max_duration_s > 0:
            raise ValueError(f"`max_duration_s > 0` must hold, but got {self.max_duration_s}.")

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Runs the command; intermediate results go to `report`.

        Returns:
            The final result; of a trial that was ended early, the last one it reported.

        Raises:
            TrialFailed: if the command cannot be started, ends with an exit code other than 0, or without a
                final result.
            MetricError: if a result is not a number or a dict of numbers with one called `default`.
        """
        if not self.directory.is_dir():
            raise TrialFailed(f"the code directory {self.directory} does not exist.")
        folder = candidate.directory.absolute()
        messages = _prepared(folder, candidate, self._parameters(candidate))
        directory = annotated_copy(self.directory, folder.parent) if self.is_annotated else self.directory
        budget = candidate.budget if self.has_budget else None
        with contextlib.ExitStack() as stack:
            visible = None if self.gpus is None else stack.enter_context(self.gpus.taken(folder.parent))
            environment = self._environment(candidate, folder, directory, visible)
            process = stack.enter_context(_running(self.command, directory, environment, folder))
            listener = _Listener(
                messages, report if budget is None else _new_steps(report, candidate.steps, budget)
            )
            is_ended = self._wait(process, listener)
        metrics = self._result(process, listener, is_ended, folder)
        if budget is not None and listener.goes_on:
            report(budget - 1, metrics)
        return metrics

    def _result(
        self, process: subprocess.Popen[bytes], listener: _Listener, is_ended: bool, folder: Path
    ) -> Metrics:
        if is_ended:
            metrics = listener.final or listener.last
            if not metrics:
                raise TrialFailed(
                    f"the trial was ended after {self.max_duration_s} s, without a result" + _said(folder)
                )
            return metrics
        if process.returncode != 0:
            raise TrialFailed(_why(process.returncode, self.command, folder))
        if listener.final is None:
            raise TrialFailed(
                "the command ended without a final result; it must call nni.report_final_result"
                + _said(folder)
            )
        return listener.final

    def _wait(self, process: subprocess.Popen[bytes], listener: _Listener) -> bool:
        """Listens until the command ends; True if it was to be ended before."""
        deadline = None if self.max_duration_s is None else time.monotonic() + self.max_duration_s
        while process.poll() is None:
            if not listener.listen() or (deadline is not None and time.monotonic() >= deadline):
                return True
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
        return not listener.listen()

    def _parameters(self, candidate: Candidate) -> dict[str, Any]:
        known = dict(candidate.sample) if self.space is None else self.space.parameters(candidate.sample)
        return {**known, BUDGET: candidate.budget} if self.has_budget else known

    def _environment(
        self, candidate: Candidate, folder: Path, directory: Path, visible: str | None
    ) -> dict[str, str]:
        shims = str(Path(shim.__file__).parent)
        path = os.environ.get("PYTHONPATH")
        result = {
            **os.environ,
            **self.environment,
            "PYTHONPATH": f"{path}{os.pathsep}{shims}" if path else shims,
            "PYTHONUNBUFFERED": "1",
            "NNI_PLATFORM": "local",
            "NNI_EXP_ID": self.experiment,
            "NNI_SYS_DIR": str(folder),
            "NNI_OUTPUT_DIR": str(folder),
            "NNI_TRIAL_JOB_ID": f"{self.experiment}-{candidate.number}",
            "NNI_TRIAL_SEQ_ID": str(candidate.number),
            "NNI_TRIAL_COMMAND_CHANNEL": "",
            "NNI_CODE_DIR": str(directory),
            "MULTI_PHASE": "false",
            "REUSE_MODE": "false",
        }
        # The script's `python` is the one that this runs under, also where its environment is not activated.
        result["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        if visible is not None:
            result["CUDA_VISIBLE_DEVICES"] = visible
        return result


def _new_steps(report: Report, taken: int, budget: int) -> Report:
    """Hands on the reports of steps not yet taken, but that of the last, which is for the final result."""
    return lambda step, metrics: report(step, metrics) if taken <= step < budget - 1 else True


class _Listener:
    """Reads the messages of a trial as they come."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        self._position = 0
        self.goes_on = True
        self._steps = 0
        self.final: Metrics | None = None
        self.last: Metrics = {}

    def listen(self) -> bool:
        """Hands on what has come since; whether the trial goes on."""
        for message in self._messages():
            metrics = _metrics_of(message)
            if message.get("type") == "FINAL":
                if "default" not in metrics:
                    have = ", ".join(sorted(metrics)) or "nothing"
                    raise MetricError(
                        "report_final_result takes a number, or a dict with the number that counts as 'default', but "
                        f"got a dict with {have}."
                    )
                self.final = metrics
            elif message.get("type") == "PERIODICAL":
                self.last = metrics
                self.goes_on = self._report(self._steps, metrics) and self.goes_on
                self._steps += 1
        return self.goes_on

    def _messages(self) -> Iterator[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return
        start = 0
        while len(data) >= start + _HEADER:
            head = data[start : start + _HEADER]
            if not (head.startswith(b"ME") and head[2:].isdigit()):
                raise TrialFailed(f"{self._path} holds what no trial API has written: {head!r}.")
            end = start + _HEADER + int(head[2:])
            if len(data) < end:
                break  # the rest is still being written
            message = json.loads(data[start + _HEADER : end])
            self._position += end - start
            start = end
            yield message


def _metrics_of(message: Mapping[str, Any]) -> Metrics:
    value = message.get("value")
    return as_metrics(json.loads(value) if isinstance(value, str) else value)


def _prepared(folder: Path, candidate: Candidate, parameters: Mapping[str, Any]) -> Path:
    """Writes the parameters into the trial's folder; the path of the messages to come."""
    messages = folder / ".nni" / "metrics"
    messages.parent.mkdir(parents=True, exist_ok=True)
    messages.unlink(missing_ok=True)
    content = {"parameter_id": candidate.number, "parameter_source": "algorithm", "parameters": parameters}
    (folder / "parameter.cfg").write_text(json.dumps(content))
    return messages


@contextlib.contextmanager
def _running(
    command: str, directory: Path, environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process; it and all it has started are ended when the block is left."""
    with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    watcher = _watcher(process.pid)
    try:
        yield process
    finally:
        _end(process)
        if watcher is not None:
            watcher.kill()
            watcher.communicate()


def _watcher(group: int) -> subprocess.Popen[bytes] | None:
    """A process that ends the group if this process dies before it could do so itself."""
    if not hasattr(os, "killpg"):
        return None
    return subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "sh", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process group: politely, and after 5 s for good."""
    has_ended = process.poll() is not None
    _signal(process, signal.SIGTERM)
    if not has_ended:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TERM_S)
        _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
    else:
        process.terminate()


def _why(code: int, command: str, folder: Path) -> str:
    """Why a command failed, in a line, and then what it printed last."""
    if code == 127:
        how = f"the command {command!r} does not exist (exit code 127)"
    elif code < 0:
        how = f"the command was ended by {signal.Signals(-code).name}"
    else:
        how = f"the command ended with exit code {code}"
    return how + _said(folder)


def _said(folder: Path) -> str:
    """The last line of the standard error, and on lines of their own those before it."""
    lines = _last_lines(folder / STDERR) or _last_lines(folder / STDOUT)
    if not lines:
        return f"; it printed nothing (see {STDERR} in its folder)."
    return f": {lines[-1].strip()}\n\nThe last lines it printed:\n" + "\n".join(lines)


def _last_lines(path: Path) -> Sequence[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 10_000))
        text = file.read().decode(errors="backslashreplace")
    return [line for line in text.splitlines() if line.strip()][-_SHOWN_LINES:]
