"""Claim: a search that is killed again and again loses no trial, counts none twice, and ends as it would have.

Starts real searches (`search.py`: a LightningModule on the digits, 12 trials of 4 epochs), each strategy with each
runner, and kills, with SIGKILL and at random moments, the driver or one of its workers; then starts them again
in the same folder until they are done. After each kill, and at the end, it holds what is in the store against
what was there before and against the same search left alone:

- lost: trials that were final, and are not any more, or have other metrics;
- twice: trials beyond the number that was asked for, or numbers that come twice;
- other: trials whose sample, status or metrics differ from the undisturbed search's;
- epochs: how many were trained in all, and how many an undisturbed search trains.

    python benchmarks/faults/faults.py [--kills 200] [--seed 0] [--runners inprocess processes ray]

Writes `faults.json` beside itself and ends with code 1 if anything was lost, counted twice, or differs.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from search import EPOCHS, EPOCHS_BEGUN, RUNNERS, STRATEGIES, TRIALS

from lightning_nas.errors import StoreError
from lightning_nas.experiment import SqliteStore
from lightning_nas.trial import Trial

_SEARCH = Path(__file__).with_name("search.py")


@dataclass
class Tally:
    """What came of the kills of one strategy with one runner."""

    strategy: str
    runner: str
    searches: int = 0
    kills_of_drivers: int = 0
    kills_of_workers: int = 0
    lost: int = 0
    twice: int = 0
    other: int = 0
    epochs_needed: int = 0
    epochs_begun: int = 0
    trials_gone_on_with: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.kills_of_drivers + self.kills_of_workers


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runners", nargs="+", default=list(RUNNERS), choices=list(RUNNERS))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    cells = [Tally(strategy, runner) for runner in options.runners for strategy in STRATEGIES]
    rng = random.Random(options.seed)
    began = time.time()
    with tempfile.TemporaryDirectory() as place:
        for number, tally in enumerate(cells):
            share = options.kills * (number + 1) // len(cells) - options.kills * number // len(cells)
            try_hard(tally, share, rng, Path(place) / str(number))
            print(json.dumps(asdict(tally)), flush=True)
    names = ("lost", "twice", "other", "kills", "epochs_needed", "epochs_begun", "trials_gone_on_with")
    result = {
        "total": {name: sum(getattr(tally, name) for tally in cells) for name in names},
        "cells": [asdict(tally) for tally in cells],
        "minutes": round((time.time() - began) / 60, 1),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["total"]))
    return int(any(result["total"][name] for name in ("lost", "twice", "other")))


def try_hard(tally: Tally, kills: int, rng: random.Random, place: Path) -> None:
    """Kills searches of one kind `kills` times, and sees each to its end."""
    alone = place / "alone"
    started = time.monotonic()
    with driver(alone, tally) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        process.wait()
    lasts_s = time.monotonic() - began
    expected = trials_of(alone)
    assert len(expected) == TRIALS, f"the undisturbed search did not end; it took {began - started:.0f} s"
    while tally.kills < kills:
        tally.searches += 1
        directory = place / str(tally.searches)
        final: dict[int, Trial] = {}
        while True:
            with driver(directory, tally) as process:
                is_over = disturb(process, tally, kills, lasts_s, rng)
            now = {trial.number: trial for trial in trials_of(directory) if trial.status.is_final}
            tally.lost += sum(
                number not in now or outcome(now[number]) != outcome(trial) for number, trial in final.items()
            )
            final = now
            if is_over:
                break
        judge(tally, directory, expected)


@contextlib.contextmanager
def driver(directory: Path, tally: Tally) -> Iterator[subprocess.Popen[str]]:
    """A driver, and after it no process of its group."""
    command = [sys.executable, str(_SEARCH), str(directory), tally.strategy, tally.runner]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment) as process,
    ):
        yield process
        if process.poll() is None:
            process.kill()
        elif process.returncode > 0:
            said.seek(0)
            last = said.read().strip().splitlines()[-5:]
            tally.notes.append(f"a driver ended with code {process.returncode}: {' | '.join(last)}")


def disturb(
    process: subprocess.Popen[str], tally: Tally, kills: int, lasts_s: float, rng: random.Random
) -> bool:
    """Kills workers, then the driver, at random moments; whether the search came to its end before that."""
    assert process.stdout is not None
    process.stdout.readline()
    while True:
        if tally.kills >= kills:
            process.wait()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.7 * lasts_s))
        if process.poll() is not None:
            return process.returncode == 0
        workers = workers_of(process.pid)
        if not workers or rng.random() < 0.5:
            process.send_signal(signal.SIGKILL)
            tally.kills_of_drivers += 1
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
            tally.kills_of_workers += 1


def workers_of(driver: int) -> list[int]:
    """The processes that run trials of a driver: leaders of groups of their own beneath it."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,pgid="], capture_output=True, text=True).stdout
    parents = {
        int(pid): (int(parent), int(group)) for pid, parent, group in map(str.split, listed.splitlines())
    }

    def is_beneath(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid][0]
            if pid == driver:
                return True
        return False

    return [pid for pid, (_, group) in parents.items() if pid == group and is_beneath(pid)]


def trials_of(directory: Path) -> list[Trial]:
    try:
        with contextlib.closing(SqliteStore.open(directory)) as store:
            return store.trials()
    except StoreError:  # it was killed before there was one
        return []


def outcome(trial: Trial) -> tuple[object, ...]:
    return trial.sample, trial.status, trial.metrics


def judge(tally: Tally, directory: Path, expected: list[Trial]) -> None:
    """Holds a search that was disturbed against one that was not."""
    trials = trials_of(directory)
    tally.twice += abs(len(trials) - TRIALS) + len(trials) - len({trial.number for trial in trials})
    for trial, other in zip(trials, expected):
        if outcome(trial) != outcome(other):
            tally.other += 1
            tally.notes.append(
                f"trial {trial.number}: {trial.status.value}, {trial.reason}, {dict(trial.metrics)}"
            )
    tally.epochs_needed += TRIALS * EPOCHS
    for log in directory.glob(f"{EPOCHS_BEGUN}/*"):
        begun = log.read_text().split()
        tally.epochs_begun += len(begun)
        tally.trials_gone_on_with += any(
            int(b) > 0 and int(b) <= int(a) for a, b in itertools.pairwise(begun)
        )


if __name__ == "__main__":
    sys.exit(main())
