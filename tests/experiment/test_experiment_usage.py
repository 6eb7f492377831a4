"""What a trial took of the machine is kept in its folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from other_processes import run_script

from lightning_nas.experiment import Experiment
from lightning_nas.experiment.usage import FILE, Usage, metered, read_usage
from lightning_nas.space import Categorical
from lightning_nas.strategies import GridSearch


def burn(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


class Takes:
    """Trial 0 takes time and memory, trial 1 neither, trial 2 fails."""

    def evaluate(self, candidate, report):
        if candidate.number == 0:
            burn(0.5)
            return {"score": float(np.ones(40_000_000).sum() > 0)}
        if candidate.number == 2:
            raise OSError("no data")
        return {"score": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [False, True])
def test_each_trial_keeps_what_it_took_and_no_other_did(tmp_path: Path, reuse: bool) -> None:
    Experiment(
        {"x": Categorical([0, 1, 2])},
        Takes(),
        GridSearch(),
        directory=tmp_path,
        max_trials=3,
        reuse=reuse,
        progress=False,
    ).run()
    used = [read_usage(tmp_path / "trials" / str(number)) for number in range(3)]
    assert all(each is not None and each.gpu_memory_mb is None for each in used)
    assert [each.cpu_s >= 0.5 for each in used] == [True, False, False]
    if sys.platform == "linux":
        assert used[0].memory_mb > used[1].memory_mb + 300  # 320 MB of ones


def test_a_fork_that_comes_back_does_not_write_for_the_trial(tmp_path: Path) -> None:
    script = """
        import os, sys
        from pathlib import Path
        from lightning_nas.experiment.usage import metered

        with metered(Path(sys.argv[1])):
            if os.fork() > 0:
                os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    run_script(script, tmp_path)
    assert not (tmp_path / FILE).exists()


def test_what_its_own_processes_took_counts(tmp_path: Path) -> None:
    with metered(tmp_path):
        subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    assert read_usage(tmp_path).cpu_s > 0.05


def test_it_is_written_when_a_trial_raises_and_not_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError), metered(tmp_path):
        raise KeyError
    assert read_usage(tmp_path) is not None
    with metered(tmp_path / "gone"):
        pass


@pytest.mark.parametrize(
    "words",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"cpu_s": "1"}',
        '{"cpu_s": NaN}',
        '{"cpu_s": null}',
        '{"cpu_s": 1, "more": 2}',
    ],
)
def test_a_file_with_something_else_counts_as_none(tmp_path: Path, words: str) -> None:
    (tmp_path / FILE).write_text(words)
    assert read_usage(tmp_path) is None
    (tmp_path / FILE).write_text(json.dumps({"cpu_s": 1.5, "memory_mb": 20}))
    assert read_usage(tmp_path) == Usage(1.5, 20)
