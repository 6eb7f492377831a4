"""One attempt to evaluate a sample: the same steps in whatever process it happens."""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lightning_nas.errors import MetricError
from lightning_nas.experiment.folder import CODE
from lightning_nas.experiment.runners.crashes import explained
from lightning_nas.experiment.runners.protocol import Job, Outcome, Work
from lightning_nas.report import TrialStopped, running
from lightning_nas.trial import Candidate, Metrics, Report, as_metrics

_LAST_STEP = 2**63 - 1  # that SQLite can hold


def attempt(work: Work, job: Job, report: Report, leads: bool = True) -> Outcome:
    """Evaluates the sample of `job`, or searches for one; what the evaluator raises becomes a failed outcome.

    `SystemExit` counts as a failure of the trial, `KeyboardInterrupt` is let through.

    Args:
        work: what all trials share.
        job: the trial.
        report: takes its metrics.
        leads: whether this process speaks for the trial, and is not one of several that train it.
    """
    latest: Metrics = {}
    one_at_a_time = threading.Lock()  # users may report from threads of theirs
    has_ended = False

    def checked(step: int, metrics: Mapping[str, float]) -> bool:
        with one_at_a_time:
            if has_ended:
                print(
                    f"Trial {job.number} has ended; its report at step {step} came too late.", file=sys.stderr
                )
                return False
            latest.clear()
            latest.update(as_metrics(metrics))
            return report(_checked_step(step), dict(latest))

    job.directory.mkdir(parents=True, exist_ok=True)
    build = functools.partial(work.build, job.sample)
    candidate = Candidate(
        job.number,
        dict(job.sample),
        build,
        job.directory,
        job.resume_from,
        job.may_pause,
        job.budget,
        job.steps,
        work.name,
    )
    try:
        if job.is_search:
            with running(candidate, checked):
                sample = work.search(checked)
            return Outcome(job.number, latest, sample=sample)
        metrics = as_metrics(work.evaluator.evaluate(candidate, checked))
        if leads:
            _write_code(work, job)
        return Outcome(job.number, metrics)
    except TrialStopped:
        return Outcome(job.number, latest)
    except (Exception, SystemExit) as error:
        return failed(job.number, error)
    finally:
        with one_at_a_time:
            has_ended = True


def _write_code(work: Work, job: Job) -> None:
    """Leaves the source of the network that was trained beside its weights; if that cannot be, says why.

    Not proved, as an export is: that would take as long again as the network takes to run.
    """
    path = job.directory / CODE
    if work.model is None or path.exists():
        return
    from lightning_nas.evaluators.artifacts import WEIGHTS  # with torch, which a model needs anyway

    # Without weights it was not trained, but looked up, or scored as a part of others.
    if not (job.directory / WEIGHTS).exists():
        return
    draft = path.with_suffix(".draft")  # a trial that is killed here leaves no half of it
    try:
        draft.write_text(work.code(job.sample), encoding="utf-8")
        draft.replace(path)
    except Exception as error:  # no reason to lose a trial
        print(f"There is no {CODE}: {error}", file=sys.stderr)


def failed(number: int, error: BaseException, skip: int = 1) -> Outcome:
    """The outcome of a trial that raised `error`.

    Args:
        number: the trial's number.
        error: what was raised.
        skip: frames of ours at the start of the traceback, which tell a user nothing.
    """
    frames = error.__traceback__
    for _ in range(skip):
        frames = frames.tb_next if frames is not None and frames.tb_next is not None else frames
    text = "".join(traceback.format_exception(type(error), error, frames))
    return Outcome(number, reason=_storable(explained(error)), traceback=_storable(text))


def _checked_step(step: Any) -> int:
    """`step` as an integer that the store can hold.

    Raises:
        MetricError: if it is none.
    """
    try:
        if int(step) == step and 0 <= step <= _LAST_STEP:
            return int(step)
    except (TypeError, ValueError, OverflowError):
        pass
    raise MetricError(f"The step of a report must be an integer of at least 0, but got {step!r}.")


def _storable(text: str) -> str:
    """Text that UTF-8 can hold: names of files may have brought halves of characters into it."""
    return text.encode(errors="backslashreplace").decode()


def trial_seed(seed: int, number: int) -> int:
    """What `seed_everything` is given in a trial: from the experiment's seed and the trial's number."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seeds random, numpy and, where it is loaded, torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  users' code may draw from the global generator
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds as `seed_everything` within the block; afterwards the states are what they were before.

    Generators on a GPU are seeded but not put back.
    """
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch = sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch is not None else None
    seed_everything(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(torch_state)
