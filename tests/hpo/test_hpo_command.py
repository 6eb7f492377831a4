"""Script trials: the shim, what a script is told and tells, and how trials end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_nas.errors import MetricError
from lightning_nas.hpo import CommandEvaluator, gpus, read_space, trial_api
from lightning_nas.hpo.command import TrialFailed
from lightning_nas.hpo.gpus import GPUs, busy_gpus
from lightning_nas.report import running
from lightning_nas.trial import Candidate, Metrics

SHIM = Path(trial_api.__file__).parent / "shim"


def evaluated(
    folder: Path,
    script: str,
    sample: Mapping[str, Any] | None = None,
    *,
    stop_at: int | None = None,
    **settings: Any,
) -> tuple[Metrics, list[tuple[int, dict[str, float]]]]:
    """The result and the reports of a trial that runs `script`."""
    code, trial = folder / "code", folder / "trial"
    code.mkdir(exist_ok=True)
    trial.mkdir(exist_ok=True)
    (code / "main.py").write_text(script)
    reports: list[tuple[int, dict[str, float]]] = []

    def report(step: int, metrics: Mapping[str, float]) -> bool:
        reports.append((step, dict(metrics)))
        return step != stop_at

    evaluator = CommandEvaluator(f"{sys.executable} main.py", code, **settings)
    return evaluator.evaluate(Candidate(3, dict(sample or {}), object, trial), report), reports


def test_a_script_gets_its_parameters_and_reports_numbers_and_dicts(tmp_path: Path) -> None:
    script = """
import nni
from nni.utils import merge_parameter
parameters = nni.get_next_parameter()
assert parameters == nni.get_next_parameter() == nni.get_current_parameter()
assert nni.get_current_parameter("x") == 2
merged = nni.utils.merge_parameter({"x": 1.0}, parameters)
class Scalar:  # as of numpy
    def item(self): return 0.25
nni.report_intermediate_result(Scalar())
nni.report_intermediate_result({"default": merged["x"], "loss": 3})
nni.report_final_result({"default": 0.5, "loss": 1})
"""
    metrics, reports = evaluated(tmp_path, script, {"x": 2})
    assert metrics == {"default": 0.5, "loss": 1.0}
    assert reports == [(0, {"default": 0.25}), (1, {"default": 2.0, "loss": 3.0})]


def test_a_script_finds_nnis_environment_and_its_nested_parameters(tmp_path: Path) -> None:
    script = """
import json, os, nni
open(os.path.join(os.environ["NNI_OUTPUT_DIR"], "seen.json"), "w").write(json.dumps({
    "parameters": nni.get_next_parameter(), "id": nni.get_trial_id(), "sequence": nni.get_sequence_id(),
    "experiment": nni.get_experiment_id(), "platform": os.environ["NNI_PLATFORM"], "here": os.getcwd(),
    "code": os.environ["NNI_CODE_DIR"], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
}))
nni.report_final_result(1)
"""
    space = read_space(
        {"m": {"_type": "choice", "_value": [{"_name": "a", "k": {"_type": "randint", "_value": [1, 3]}}]}}
    )
    evaluated(tmp_path, script, {"m": "a", "m/a/k": 2}, space=space, experiment="lab", gpus=GPUs(0))
    code = str(tmp_path / "code")
    assert json.loads((tmp_path / "trial" / "seen.json").read_text()) == {
        "parameters": {"m": {"_name": "a", "k": 2}},
        "id": "lab-3",
        "sequence": 3,
        "experiment": "lab",
        "platform": "local",
        "here": code,
        "code": code,
        "gpus": "",
    }


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise ValueError('no data')", "^the command ended with exit code 1: ValueError: no data\n"),
        ("import sys; sys.exit(3)", "^the command ended with exit code 3; it printed nothing"),
        (
            "try: 1/0\nexcept Exception as e: print('oh:', e)",
            "without a final result.*: oh: division by zero",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV|exit code 139"),
    ],
)
def test_a_failed_command_says_how_and_what_it_printed_last(
    tmp_path: Path, script: str, message: str
) -> None:
    with pytest.raises(TrialFailed, match=message):
        evaluated(tmp_path, script)


def test_a_command_or_code_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    candidate = Candidate(0, {}, object, tmp_path)
    with pytest.raises(TrialFailed, match="the command 'pyton main.py' does not exist"):
        CommandEvaluator("pyton main.py", tmp_path).evaluate(candidate, lambda *_: True)
    with pytest.raises(TrialFailed, match="the code directory .*nowhere does not exist"):
        CommandEvaluator("true", tmp_path / "nowhere").evaluate(candidate, lambda *_: True)
    with pytest.raises(ValueError, match="`command` must be what starts a trial"):
        CommandEvaluator(" ")


def test_a_dict_without_default_is_refused_with_the_right_form(tmp_path: Path) -> None:
    with pytest.raises(
        MetricError, match="the number that counts as 'default', but got a dict with acc, loss"
    ):
        evaluated(tmp_path, "import nni; nni.report_final_result({'acc': 1, 'loss': 2})")


def test_a_trial_ends_where_a_rule_says_stop_and_its_children_with_it(tmp_path: Path) -> None:
    script = """
import nni, os, subprocess, time
child = subprocess.Popen(["sleep", "100"])
open(os.path.join(os.environ["NNI_OUTPUT_DIR"], "child"), "w").write(str(child.pid))
for i in range(1000):
    nni.report_intermediate_result(i)
    time.sleep(0.2)
"""
    metrics, reports = evaluated(tmp_path, script, stop_at=1)
    assert reports[-1] == (len(reports) - 1, metrics)
    assert 2 <= len(reports) < 20
    assert is_gone(int((tmp_path / "trial" / "child").read_text()))


def test_a_trial_ends_after_its_duration_with_what_it_reported(tmp_path: Path) -> None:
    wait = "import time, nni\n{}\ntime.sleep(100)"
    metrics, _ = evaluated(tmp_path, wait.format("nni.report_intermediate_result(0.5)"), max_duration_s=1.5)
    assert metrics == {"default": 0.5}
    with pytest.raises(TrialFailed, match=r"ended after 0.1 s, without a result"):
        evaluated(tmp_path, wait.format(""), max_duration_s=0.1)


@pytest.mark.slow
def test_a_command_does_not_outlive_the_process_of_its_trial(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from lightning_nas.hpo import CommandEvaluator
from lightning_nas.trial import Candidate
here = Path({str(tmp_path)!r})
evaluator = CommandEvaluator("echo $$ > pid.tmp; mv pid.tmp pid; sleep 100", here)
evaluator.evaluate(Candidate(0, {{}}, object, here), lambda *_: True)
"""
    driver = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert is_gone(int((tmp_path / "pid").read_text()))


def is_gone(pid: int, within_s: float = 10) -> bool:
    """Whether a process ends in time; a zombie that its parent has not collected counts as ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def run_with_shim(program: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NNI_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(SHIM), *more])
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )


def test_a_script_runs_on_its_own_as_with_nni() -> None:
    program = """
import sys, nni
print(nni.get_next_parameter(), nni.get_trial_id(), nni.get_experiment_id(), nni.get_sequence_id())
nni.report_intermediate_result(0.5); nni.report_final_result({"default": 1})
print(sorted({"torch", "numpy", "lightning_nas", "pytorch_lightning"} & set(sys.modules)))
"""
    done = run_with_shim(program)
    assert done.stdout.splitlines() == [
        "{} STANDALONE STANDALONE 0",
        "Intermediate result: 0.5  (Index 0)",
        "Final result: {'default': 1}",
        "[]",
    ]
    assert "RuntimeWarning: Running NNI code without runtime" in done.stderr


def test_the_shim_steps_aside_for_the_real_nni(tmp_path: Path) -> None:
    (tmp_path / "nni").mkdir()
    (tmp_path / "nni" / "__init__.py").write_text("real = True\n")
    (tmp_path / "nni" / "deep.py").write_text("value = 7\n")
    program = "import nni; from nni.deep import value; print(nni.real, value)"
    assert run_with_shim(program, str(tmp_path)).stdout == "True 7\n"


def test_parameters_are_merged_by_key_and_type() -> None:
    base = argparse.Namespace(lr=0.1, layers=2, name=None)
    merged = trial_api.merge_parameter(base, {"lr": 1, "name": "x"})
    assert merged is base
    assert vars(base) == {"lr": 1.0, "layers": 2, "name": "x"}
    assert type(base.lr) is float
    assert trial_api.merge_parameter({"a": 1}, None) == {"a": 1}
    with pytest.raises(ValueError, match=r"no parameter 'lrr'; it has \['lr'\]"):
        trial_api.merge_parameter({"lr": 1}, {"lrr": 1})
    with pytest.raises(TypeError, match="'layers' is of type int in the script, but 2.5 is of type float"):
        trial_api.merge_parameter({"layers": 2}, {"layers": 2.5})


def test_in_a_trial_of_a_python_function_the_api_speaks_to_it() -> None:
    seen = []
    with running(Candidate(0, {"x": 1}, object, Path()), lambda *each: seen.append(each) or True) as trial:
        assert trial_api.get_next_parameter() == {"x": 1}
        assert trial_api.get_current_parameter("x") == 1
        trial_api.report_intermediate_result(np.float32(0.5))
        trial_api.report_final_result({"default": 2})
    assert seen == [(0, {"default": 0.5})]
    assert trial.final == {"default": 2.0}


def test_gpus_are_dealt_out_by_locks_and_given_back(tmp_path: Path) -> None:
    dealt = GPUs(1, ("0", "2"), trials_per_gpu=2)
    held = [dealt.taken(tmp_path) for _ in range(4)]
    assert [each.__enter__() for each in held] == ["0", "2", "0", "2"]
    for each in held:
        each.__exit__(None, None, None)
    with GPUs(2, ("0", "2")).taken(tmp_path) as both:
        assert both == "0,2"
    with GPUs(0, ("0",)).taken(tmp_path) as none:
        assert none == ""
    with pytest.raises(ValueError, match="0 <= per_trial <= len"):
        GPUs(2, ("0",))


SMI = """#!/bin/sh
case "$1" in
  --query-gpu=index,uuid) printf '0, GPU-aa\\n1, GPU-bb\\n' ;;
  --query-compute-apps=gpu_uuid,pid) cat "$(dirname "$0")/processes" ;;
  *) exit 2 ;;
esac
"""


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file whose lines a nvidia-smi on the path tells as the processes on GPUs 0 and 1."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text(SMI)
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    file = tmp_path / "bin" / "processes"
    file.write_text("")
    return file


def test_a_gpu_on_which_others_compute_is_passed_over(tmp_path: Path, processes: Path) -> None:
    idle = GPUs(1, ("0", "1"), use_active=False)
    with idle.taken(tmp_path) as first:
        assert first == "0"
    processes.write_text("GPU-aa, 999999\n")
    assert busy_gpus() == {"0", "GPU-aa"}
    with idle.taken(tmp_path) as second:
        assert second == "1"
    with GPUs(1, ("0", "1")).taken(tmp_path) as any_of_them:
        assert any_of_them == "0"
    processes.write_text(f"GPU-aa, {os.getpid()}\nGPU-bb, {os.getppid()}\n")
    assert busy_gpus() == set()


def test_the_trials_of_an_experiment_share_a_gpu_that_they_keep_busy(tmp_path: Path, processes: Path) -> None:
    idle = GPUs(1, ("0", "1"), trials_per_gpu=2, use_active=False)
    with idle.taken(tmp_path) as first, idle.taken(tmp_path) as second:
        assert (first, second) == ("0", "1")
        processes.write_text("GPU-aa, 999999\nGPU-bb, 999999\n")
        with idle.taken(tmp_path) as third:
            assert third == "0"


def test_a_trial_waits_until_a_gpu_is_idle(
    tmp_path: Path, processes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpus, "_BUSY_POLL_S", 0.05)
    processes.write_text("GPU-aa, 999999\n")
    ending = threading.Timer(0.3, processes.write_text, [""])
    began = time.monotonic()
    ending.start()
    with GPUs(1, ("0",), use_active=False).taken(tmp_path) as taken:
        assert taken == "0"
        assert time.monotonic() >= began + 0.3
    ending.join()
    assert capsys.readouterr().out == "Waiting for 1 free GPUs among 0.\n"


def test_without_nvidia_smi_no_gpu_counts_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert busy_gpus() == set()
