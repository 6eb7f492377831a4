"""The loop that asks, evaluates and remembers."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from lightning_nas.errors import MetricError, StoreError
from lightning_nas.experiment import folder
from lightning_nas.experiment.best import keep_best, kept_number
from lightning_nas.experiment.display import Display
from lightning_nas.experiment.interrupts import Interrupts
from lightning_nas.experiment.runners.protocol import Job, Outcome, Runner
from lightning_nas.experiment.store import Store
from lightning_nas.strategies import generator
from lightning_nas.trial import Intermediate, Status, Trial, best

if TYPE_CHECKING:
    from lightning_nas.strategies import Strategy

_POLL_S = 0.2
# What evaluators leave in a trial's folder, and what the trial's process does: the first that is there.
# Lightning's `ModelCheckpoint(save_last=True)` writes the last of the checkpoints.
_ARTIFACTS = {
    "weights": ("weights.pt",),
    "inputs": ("inputs.pt",),
    "checkpoint": ("checkpoint", "last.ckpt", "checkpoints/last.ckpt"),
    "output": ("output.log",),
}


class Stopping(Protocol):
    """A rule that may end a running trial early."""

    def decide(self, trial: Trial, trials: Sequence[Trial]) -> Literal["go", "stop"]:
        """Whether `trial`, whose last report is new, goes on.

        Args:
            trial: the one that reported; it is also among `trials`.
            trials: all so far.
        """
        ...


@dataclass(frozen=True)
class Plan:
    """How a search is to be run; see `Experiment` for the words."""

    strategy: Strategy
    stopping: Stopping | None
    directory: Path
    max_trials: int | None
    max_duration_s: float | None
    max_consecutive_failures: int | None
    begins_with_search: bool = False


@dataclass(frozen=True)
class Ending:
    """Why a search ended.

    Args:
        text: a phrase for people.
        is_hopeless: whether too many trials failed in a row.
        is_interrupted: whether a signal ended it.
    """

    text: str
    is_hopeless: bool = False
    is_interrupted: bool = False


_INTERRUPTED = Ending("interrupted", is_interrupted=True)


class Loop:
    """Runs trials until the budget is spent, the strategy has no more, or someone interrupts.

    Each change is in the store before anything else learns of it. Trials that a former driver left
    running are run again first, with their number, sample and checkpoint.
    """

    def __init__(self, plan: Plan, store: Store, display: Display, interrupts: Interrupts) -> None:
        self._plan = plan
        self._store = store
        self._display = display
        self._interrupts = interrupts
        self._space = store.description.space
        self._objective = store.description.objective
        self.trials = store.trials()
        self._best = next(iter(best(self.trials)), None)
        self._waiting = deque(trial.number for trial in self.trials if not trial.status.is_final)
        self._running: set[int] = set()
        self._silent: set[int] = set()  # running, but without a report in this attempt
        self._stopped: dict[int, str] = {}
        self._failures = 0
        self._is_exhausted = False
        spent = sum(run["seen"] - run["started"] for run in store.runs())
        self._deadline = (
            None if plan.max_duration_s is None else time.monotonic() + plan.max_duration_s - spent
        )

    def run(self, make_runner: Callable[[], Runner]) -> Ending:
        """Runs to the end; what then still runs is left to be taken up again.

        Args:
            make_runner: called if there is anything to run.

        Raises:
            Exception: what the strategy or the stopping rule raises.
        """
        if self._best is not None and kept_number(self._plan.directory) != self._best.number:
            keep_best(self._plan.directory, self._best)
        ending = self._why_not_start()
        if ending is not None:
            return ending
        runner = make_runner()
        try:
            return self._run(runner)
        except KeyboardInterrupt:
            return _INTERRUPTED
        finally:
            runner.close()
            self._put_aside()

    def _run(self, runner: Runner) -> Ending:
        while self._interrupts.level < 2:
            ending = self._fill(runner)
            if ending is not None and not self._running:
                return ending
            outcomes = runner.poll(_POLL_S, self._report)
            if self._interrupts.level >= 2 and runner.runs_here:
                break  # an evaluator may have made a failure of the interrupt
            for outcome in outcomes:
                self._finish(outcome)
        return _INTERRUPTED

    def _fill(self, runner: Runner) -> Ending | None:
        """Starts trials while there is room; the reason if no more may start, None if more may."""
        while runner.free > 0:
            ending = self._why_not_start()
            if ending is not None:
                return ending
            trial = self._next()
            if trial is None:
                self._is_exhausted = True
            else:
                self._start(trial, runner)
        return None

    def _why_not_start(self) -> Ending | None:
        plan, number = self._plan, len(self.trials)
        if self._interrupts.level > 0:
            return _INTERRUPTED
        if plan.max_consecutive_failures is not None and self._failures >= plan.max_consecutive_failures:
            return Ending(f"the last {self._failures} trials all failed", is_hopeless=True)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return Ending("max_duration is over")
        if self._waiting:
            return None
        if plan.max_trials is not None and number >= plan.max_trials:
            return Ending(f"all {number} trials are done")
        if self._is_exhausted:
            return Ending(f"the strategy has no more samples after {number} trials")
        return None

    def _next(self) -> Trial | None:
        """The next trial: one that a former driver left, or a new one; None if the strategy has no more."""
        if self._waiting:
            trial = self.trials[self._waiting.popleft()]
            return replace(trial, status=Status.RUNNING, reason="taken up again")
        number = len(self.trials)
        if self._is_search(number):
            return Trial(number, {})
        strategy = self._plan.strategy
        rng = generator(strategy, self._store.description.seed, number)
        sample = strategy.ask(self._space, self.trials, rng)
        return None if sample is None else Trial(number, self._space.check(sample))

    def _is_search(self, number: int) -> bool:
        return self._plan.begins_with_search and number == 0

    def _start(self, trial: Trial, runner: Runner) -> None:
        trial = replace(trial, started=time.time())
        self._store.write(trial)
        if trial.number == len(self.trials):
            self.trials.append(trial)
        else:
            self.trials[trial.number] = trial
        directory = self._plan.directory / folder.trial_folder(trial.number)
        checkpoint = self._artifacts(trial.number).get("checkpoint")
        seeds = np.random.SeedSequence([self._store.description.seed, trial.number])
        self._running.add(trial.number)
        self._silent.add(trial.number)
        runner.submit(
            Job(
                trial.number,
                trial.sample,
                directory,
                int(seeds.generate_state(1)[0]),
                None if checkpoint is None else self._plan.directory / checkpoint,
                self._is_search(trial.number),
            )
        )
        self._display.show(self.trials, trial)

    def _report(self, number: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Takes note of a report; whether the trial goes on."""
        trial = self.trials[number]
        reports = trial.intermediate
        if number in self._silent:
            # What an earlier attempt reported is kept as far as this one did not go back.
            self._silent.discard(number)
            reports = tuple(report for report in reports if report.step < step)
        report = Intermediate(step, dict(metrics))
        self._store.report(number, len(reports), report)
        trial = self.trials[number] = replace(trial, intermediate=(*reports, report))
        self._display.show(self.trials, trial)
        if self._plan.stopping is not None and number not in self._stopped:
            decision = self._plan.stopping.decide(trial, self.trials)
            if decision not in ("go", "stop"):
                raise ValueError(
                    f"A stopping rule answers 'go' or 'stop', but {self._plan.stopping} said {decision!r}."
                )
            if decision == "stop":
                self._stopped[number] = f"stopped by {type(self._plan.stopping).__name__} at step {step}"
        return number not in self._stopped

    def _finish(self, outcome: Outcome) -> None:
        number = outcome.number
        trial = replace(self._judge(outcome), finished=time.time(), artifacts=self._artifacts(number))
        self._store.write(trial)
        self.trials[number] = trial
        self._running.discard(number)
        self._silent.discard(number)
        self._failures = self._failures + 1 if trial.status is Status.FAILED else 0
        leaders = best([trial] if self._best is None else [self._best, trial])
        if leaders and leaders[0] is trial:
            self._best = trial
            keep_best(self._plan.directory, trial)
        self._display.show(self.trials, trial)

    def _judge(self, outcome: Outcome) -> Trial:
        """How the trial of `outcome` ended."""
        trial = replace(self.trials[outcome.number], reason=self._stopped.pop(outcome.number, None))
        if outcome.metrics is None:
            return replace(trial, status=Status.FAILED, reason=outcome.reason, traceback=outcome.traceback)
        trial = replace(trial, metrics=outcome.metrics)
        if outcome.sample is not None:  # a search competes with no one: what it derived does
            return replace(trial, sample=self._space.check(outcome.sample), status=Status.COMPLETED)
        status = Status.COMPLETED if trial.reason is None else Status.STOPPED
        try:
            return replace(trial, status=status, score=self._objective.score(outcome.metrics))
        except MetricError as error:
            if status is Status.STOPPED:
                return replace(trial, status=status)
            return replace(trial, status=Status.FAILED, reason=f"MetricError: {error}")

    def _artifacts(self, number: int) -> dict[str, str]:
        """What is in a trial's folder, by paths relative to the experiment's."""
        place = folder.trial_folder(number)
        found = {}
        for name, files in _ARTIFACTS.items():
            there = (f"{place}/{file}" for file in files if (self._plan.directory / place / file).exists())
            path = next(there, None)
            if path is not None:
                found[name] = path
        return found

    def _put_aside(self) -> None:
        """Says in the store of what was running that it no longer does."""
        for number in sorted(self._running):
            reason = "the search broke off; runs again on resume"
            trial = replace(self.trials[number], status=Status.PAUSED, reason=reason)
            self.trials[number] = trial
            with contextlib.suppress(StoreError):  # the next driver finds it running, which is as good
                self._store.write(trial)
        self._running.clear()
