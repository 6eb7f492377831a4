"""The loop that asks, evaluates and remembers."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_nas.errors import MetricError, StoreError
from lightning_nas.experiment import folder
from lightning_nas.experiment.best import keep_best, kept_number
from lightning_nas.experiment.display import Display
from lightning_nas.experiment.ending import Ending, full, hopeless, interrupted
from lightning_nas.experiment.interrupts import Interrupts
from lightning_nas.experiment.requests import Inbox, RequestError
from lightning_nas.experiment.runners.attempt import trial_seed
from lightning_nas.experiment.runners.protocol import Job, Outcome, Runner
from lightning_nas.experiment.store import Store, elapsed_s
from lightning_nas.experiment.tidying import Tidying
from lightning_nas.stopping import PausingRule
from lightning_nas.strategies import generator
from lightning_nas.trial import Intermediate, Sample, Status, Trial, best

if TYPE_CHECKING:
    from lightning_nas.stopping import StoppingRule
    from lightning_nas.strategies import Strategy

_POLL_S = 0.2
_ENOUGH_UNSCORED = 2  # trials to see that the objective's name is wrong
# What evaluators leave in a trial's folder, and what the trial's process does: the first that is there.
# Lightning's `ModelCheckpoint(save_last=True)` writes the last of the checkpoints.
_ARTIFACTS = {
    "weights": ("weights.pt",),
    "inputs": ("inputs.pt",),
    "checkpoint": ("checkpoint", "last.ckpt", "checkpoints/last.ckpt"),
    "output": ("output.log",),
    "config": ("config.yaml",),
    "code": (folder.CODE,),
}


@dataclass(frozen=True)
class Plan:
    """How a search is to be run; see `Experiment` for the words."""

    strategy: Strategy
    stopping: StoppingRule | None
    directory: Path
    max_trials: int | None
    max_duration_s: float | None
    max_consecutive_failures: int | None
    retries: int = 0
    begins_with_search: bool = False
    lag: int = 0
    is_constrained: bool = False
    keep_weights: int | None = None
    ranks: int = 1


class Loop:
    """Runs trials until the budget is spent, the strategy has no more, or someone interrupts.

    Each change is in the store before anything else learns of it. Trials that a former driver left
    running, and samples that someone asked for, are run first. Then come the paused ones that the stopping
    rule lets go on, and then new samples.
    """

    _runner: Runner

    def __init__(
        self, plan: Plan, store: Store, display: Display, interrupts: Interrupts, inbox: Inbox
    ) -> None:
        self._plan = plan
        self._store = store
        self._display = display
        self._interrupts = interrupts
        self._inbox = inbox
        self._is_told_to_stop = False
        self.space = store.description.space
        self._objective = store.description.objective
        self.trials = store.trials()
        self._best = next(iter(best(self.trials)), None)
        self._pausing = plan.stopping if isinstance(plan.stopping, PausingRule) else None
        left = (trial for trial in self.trials if not trial.status.is_final)
        self._waiting = deque(t.number for t in left if self._pausing is None or not t.is_held)
        self._running: set[int] = set()
        self._silent: set[int] = set()  # running, but without a report in this attempt
        self._ends: dict[int, tuple[Status, str]] = {}  # running, but told to stop: as what, and why
        self._tidying: Tidying | None = None
        self._crashes: Counter[int] = Counter()  # by trial
        self._failures = 0
        self._unscored = 0  # trials that ended without the objective, while none had it
        self._is_exhausted = False
        left_s = None if plan.max_duration_s is None else plan.max_duration_s - elapsed_s(store.runs())
        self._deadline = None if left_s is None else time.monotonic() + left_s

    def run(self, make_runner: Callable[[], Runner]) -> Ending:
        """Runs to the end; what then still runs is left to be taken up again.

        Args:
            make_runner: called if there is anything to run.

        Raises:
            Exception: what the strategy or the stopping rule raises.
        """
        if self._best is not None and kept_number(self._plan.directory) != self._best.number:
            self._keep(self._best)
        keep = self._plan.keep_weights
        if keep is not None:
            self._tidying = Tidying(self._plan.directory, self._store, self.trials, keep)
        self._hold_what_was_to_pause()
        ending = self._why_not_start()
        if ending is not None:
            return ending
        self._runner = make_runner()
        try:
            return self._run()
        except KeyboardInterrupt:
            return interrupted(self._is_told_to_stop)
        finally:
            self._runner.close()
            self._put_aside()

    # What other processes may ask for; see `requests`, which checks it first.

    def stop(self, now: bool) -> None:
        """Starts no new trial; with `now` the running ones end too, and run again on resume."""
        self._is_told_to_stop = True
        self._interrupts.ask(now)

    def kill(self, number: int) -> None:
        """Ends a running or paused trial as stopped, with the metrics of its last report."""
        trial = self.trials[number]
        when = f"after step {trial.steps - 1}" if trial.intermediate else "before its first report"
        self._ends[number] = Status.STOPPED, f"stopped by request {when}"
        if number in self._running and self._runner.runs_here:
            return  # it is told so when it reports
        self._runner.cancel(number)
        if number in self._waiting:
            self._waiting.remove(number)
        self._finish(Outcome(number, dict(trial.intermediate[-1].metrics) if trial.intermediate else {}))

    def enqueue(self, sample: Sample, why: str) -> None:
        """Stores a sample as a trial that runs before any new one, also where the budget is spent."""
        if self._plan.begins_with_search:
            raise RequestError(
                "This search takes no further trials: it searches once and evaluates the result."
            )
        trial = Trial(len(self.trials), sample, Status.PAUSED, reason=why)
        self._store.write(trial)
        self.trials.append(trial)
        self._waiting.append(trial.number)

    def _run(self) -> Ending:
        runner = self._runner
        while self._interrupts.level < 2:
            self._inbox.serve(self)
            ending = self._fill()
            if ending is None and not self._running:  # a cluster may have no room for now
                ending = self._why_not_start()
            if ending is not None and not self._running:
                return ending
            outcomes = runner.poll(_POLL_S, self._report)
            if self._interrupts.level >= 2 and runner.runs_here:
                break  # an evaluator may have made a failure of the interrupt
            for outcome in outcomes:
                if outcome.metrics is not None or folder.has_room(self._plan.directory):
                    self._finish(outcome)
                else:  # a full disk is no fault of the sample
                    self._ends.pop(outcome.number, None)
                    self._running.discard(outcome.number)
                    self._waiting.append(outcome.number)
        return interrupted(self._is_told_to_stop)

    def _fill(self) -> Ending | None:
        """Starts trials while there is room; the reason if no more may start, None if more may."""
        while self._runner.free > 0:
            ending = self._why_not_start()
            if ending is not None:
                return ending
            if self._must_wait():
                return None
            trial = self._next()
            if trial is None:
                self._is_exhausted = True
            else:
                self._start(trial)
        return None

    def _why_not_start(self) -> Ending | None:
        plan, number = self._plan, len(self.trials)
        if self._interrupts.level > 0:
            return interrupted(self._is_told_to_stop)
        if plan.max_consecutive_failures is not None and (
            self._failures >= plan.max_consecutive_failures or self._unscored >= _ENOUGH_UNSCORED
        ):
            return hopeless(self._failures)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return Ending("max_duration is over")
        if not folder.has_room(plan.directory):
            return full(folder.ROOM_MB)
        if self._waiting or self._held() is not None:
            return None
        if plan.max_trials is not None and number >= plan.max_trials:
            return Ending(f"all {number} trials are done")
        if self._is_exhausted:
            within = " within its constraints" if self._plan.is_constrained else ""
            return Ending(f"the strategy has no more samples{within} after {number} trials")
        return None

    def _next(self) -> Trial | None:
        """The next trial: left by a former driver, paused, or new; None if the strategy has no more."""
        if self._waiting:
            trial = self.trials[self._waiting.popleft()]
            reason = trial.reason if trial.started is None else "taken up again"
            if self._crashes[trial.number]:
                reason = f"attempt {self._crashes[trial.number] + 1}"
            return self._granted(replace(trial, status=Status.RUNNING, reason=reason))
        number = self._held()
        if number is not None:
            trial = self.trials[number]
            reason = f"goes on after step {trial.steps - 1}"
            return self._granted(replace(trial, status=Status.RUNNING, reason=reason))
        number = len(self.trials)
        if self._is_search(number):
            return Trial(number, {})
        strategy = self._plan.strategy
        rng = generator(strategy, self._store.description.seed, number)
        sample = strategy.ask(self.space, self._known(), rng)
        return None if sample is None else self._granted(Trial(number, self.space.check(sample)))

    def _must_wait(self) -> bool:
        """Whether a result is still out that the strategy is to know before it is asked again."""
        if not self._plan.lag or self._waiting:
            return False
        return any(number < len(self.trials) - self._plan.lag for number in self._running)

    def _known(self) -> list[Trial]:
        """The trials as the strategy may see them: the newest `lag` as if they had just begun."""
        if not self._plan.lag:
            return self.trials
        old = max(0, len(self.trials) - self._plan.lag)
        return self.trials[:old] + [Trial(trial.number, trial.sample) for trial in self.trials[old:]]

    def _held(self) -> int | None:
        """The number of the paused trial that is to go on, if any."""
        number = None if self._pausing is None else self._pausing.resume(self.trials)
        if number is not None and not (0 <= number < len(self.trials) and self.trials[number].is_held):
            raise ValueError(f"`resume` must name a paused trial, but {self._pausing} said {number!r}.")
        return number

    def _granted(self, trial: Trial) -> Trial:
        """`trial` with the steps it may take before the rule is asked about it."""
        if self._pausing is None:
            return replace(trial, budget=None)
        budget = self._pausing.budget(trial, self.trials)
        if trial.budget is not None:
            # What was decided stays so, also where the same steps are taken anew for want of a checkpoint.
            decided = trial.steps + 1 if self.trials[trial.number].is_held else trial.budget
            budget = max(decided, budget or 0)
        return replace(trial, budget=budget)

    def _hold_what_was_to_pause(self) -> None:
        """Takes the decisions that former drivers died before: a report was stored, its pause was not."""
        for number in list(self._waiting) if self._pausing is not None else ():
            trial = self.trials[number]
            is_due = trial.status is Status.RUNNING and trial.steps >= max(1, trial.budget or 0)
            if is_due and self._decision(trial)[0] is Status.PAUSED:
                self._waiting.remove(number)
                self.trials[number] = _paused(trial, "paused on resume")
                self._store.write(self.trials[number])

    def _is_search(self, number: int) -> bool:
        return self._plan.begins_with_search and number == 0

    def _start(self, trial: Trial) -> None:
        trial = replace(trial, started=time.time())
        self._store.write(trial)
        if trial.number == len(self.trials):
            self.trials.append(trial)
        else:
            self.trials[trial.number] = trial
        directory = self._plan.directory / folder.trial_folder(trial.number)
        checkpoint = self._artifacts(trial.number).get("checkpoint")
        self._running.add(trial.number)
        self._silent.add(trial.number)
        self._runner.submit(
            Job(
                trial.number,
                trial.sample,
                directory,
                trial_seed(self._store.description.seed, trial.number),
                None if checkpoint is None else self._plan.directory / checkpoint,
                self._is_search(trial.number),
                self._pausing is not None,
                trial.budget,
                trial.steps,
                self._plan.ranks,
            )
        )
        self._display.show(self.trials, trial)

    def _report(self, number: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Takes note of a report; whether the trial goes on.

        Raises:
            KeyboardInterrupt: if the search is to stop now and the trial runs in this process.
        """
        trial = self.trials[number]
        reports = trial.intermediate
        if number in self._silent:
            # What an earlier attempt reported is kept as far as this one did not go back.
            self._silent.discard(number)
            reports = tuple(report for report in reports if report.step < step)
        report = Intermediate(step, dict(metrics), self._objective.score_of_report(metrics))
        self._store.report(number, len(reports), report)
        trial = self.trials[number] = replace(trial, intermediate=(*reports, report))
        self._display.show(self.trials, trial)
        # Elsewhere the loop serves: a runner must not be told to cancel while it hands on a report.
        if self._runner.runs_here:
            self._inbox.serve(self)
            if self._interrupts.level >= 2:
                raise KeyboardInterrupt
        if number not in self._ends and (trial.budget is None or trial.steps >= trial.budget):
            self._decide(trial)
        return number not in self._ends

    def _decide(self, trial: Trial) -> None:
        """Asks the stopping rule about a trial that has just reported."""
        status, reason = self._decision(trial)
        if status is Status.RUNNING:
            return
        self._ends[trial.number] = status, reason
        if status is Status.PAUSED:
            # At once: a trial that dies before it ends must not run past the decision on resume.
            self._store.write(_paused(trial, reason))

    def _decision(self, trial: Trial) -> tuple[Status, str]:
        """What the rule makes of a trial: RUNNING, PAUSED, STOPPED, or FAILED for want of its metric; and why."""
        rule = self._plan.stopping
        if rule is None or self._is_search(trial.number):
            return Status.RUNNING, ""
        try:
            decision = rule.decide(trial, self.trials)
        except MetricError as error:
            return Status.FAILED, f"MetricError: {error}"
        statuses = {"go": Status.RUNNING, "stop": Status.STOPPED}
        if self._pausing is not None:
            statuses["pause"] = Status.PAUSED
        if decision not in statuses:
            raise ValueError(
                f"A stopping rule answers {' or '.join(map(repr, statuses))}, but {rule} said {decision!r}."
            )
        status = statuses[decision]
        return status, f"{status.value} by {type(rule).__name__} at step {trial.steps - 1}"

    def _retry(self, number: int, reason: str | None) -> None:
        """Lets a trial whose attempt the machine ended go on as soon as there is room."""
        self._running.discard(number)
        self._silent.discard(number)
        self._waiting.append(number)
        trial = self.trials[number] = _broken_off(self.trials[number], f"{reason} Runs again.")
        self._store.write(trial)
        self._display.say(f"Trial {number}: {trial.reason}")

    def _finish(self, outcome: Outcome) -> None:
        number = outcome.number
        if outcome.is_crash and number not in self._ends:
            self._crashes[number] += 1
            if self._crashes[number] <= self._plan.retries:
                self._retry(number, outcome.reason)
                return
            if self._crashes[number] > 1:
                outcome = replace(outcome, reason=f"{outcome.reason} Attempts: {self._crashes[number]}.")
        trial = self._judge(outcome)
        finished = None if trial.status is Status.PAUSED else time.time()
        trial = replace(trial, finished=finished, artifacts=self._artifacts(number))
        self._store.write(trial)
        self.trials[number] = trial
        self._running.discard(number)
        self._silent.discard(number)
        self._failures = self._failures + 1 if trial.status is Status.FAILED else 0
        leaders = best([trial] if self._best is None else [self._best, trial])
        if leaders and leaders[0] is trial:
            self._best = trial
            self._keep(trial)
        if self._tidying is not None:
            self._tidying.ended(trial)
        self._display.show(self.trials, trial)

    def _keep(self, trial: Trial) -> None:
        try:
            keep_best(self._plan.directory, trial)
        except OSError as error:
            self._display.say(
                f"{folder.BEST}/ could not be written ({error}); it is when the search goes on."
            )

    def _judge(self, outcome: Outcome) -> Trial:
        """How the trial of `outcome` ended."""
        trial = self.trials[outcome.number]
        status, reason = self._ends.pop(outcome.number, (Status.COMPLETED, None))
        trial = replace(trial, status=status, reason=reason, metrics={}, score=None)
        if outcome.metrics is None:
            return replace(trial, status=Status.FAILED, reason=outcome.reason, traceback=outcome.traceback)
        if status is Status.FAILED:
            return trial
        if reason is not None and status is Status.PAUSED:
            return _paused(trial, reason)
        trial = replace(trial, metrics=outcome.metrics)
        if outcome.sample is not None:  # a search competes with no one: what it derived does
            return replace(trial, sample=self.space.check(outcome.sample))
        try:
            return replace(trial, score=self._objective.score(outcome.metrics))
        except MetricError as error:
            if status is Status.STOPPED:
                return trial
            if self._best is None and self._objective.score_of_report(outcome.metrics) is None:
                self._unscored += 1
            return replace(trial, status=Status.FAILED, reason=f"MetricError: {error}")

    def _artifacts(self, number: int) -> dict[str, str]:
        """What is in a trial's folder, by paths relative to the experiment's."""
        place = folder.trial_folder(number)
        directory = self._plan.directory / place
        try:
            there = set(os.listdir(directory))  # one look, where a search of short trials would notice many
        except OSError:  # it has not begun
            return {}
        found = {}
        for name, files in _ARTIFACTS.items():
            for file in files:
                if file.split("/")[0] in there and ("/" not in file or (directory / file).exists()):
                    found[name] = f"{place}/{file}"
                    break
        return found

    def _put_aside(self) -> None:
        """Says in the store of what was running that it no longer does."""
        left = {number for number in self._waiting if self.trials[number].status is Status.RUNNING}
        for number in sorted(self._running | left):
            status, reason = self._ends.get(number, (None, ""))
            if status is Status.PAUSED:
                trial = _paused(self.trials[number], reason)
            else:
                trial = _broken_off(self.trials[number], "the search broke off; runs again on resume")
            self.trials[number] = trial
            with contextlib.suppress(StoreError):  # the next driver finds it running, which is as good
                self._store.write(trial)
        self._running.clear()


def _paused(trial: Trial, reason: str) -> Trial:
    """`trial` as its stopping rule holds it, with what its last report says of it."""
    last = trial.intermediate[-1]
    return replace(
        trial,
        status=Status.PAUSED,
        reason=reason,
        metrics=last.metrics,
        score=last.score,
        budget=trial.steps,
    )


def _broken_off(trial: Trial, reason: str) -> Trial:
    """`trial` as it waits to be run again, which its stopping rule has no say in."""
    trial = replace(trial, status=Status.PAUSED, reason=reason)
    return replace(trial, budget=trial.steps + 1) if trial.is_held else trial
