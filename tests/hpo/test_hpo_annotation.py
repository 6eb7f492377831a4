"""NNI's annotations: what they become, what is wrong with them, and whole experiments of annotated code."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from lightning_nas import Experiment, cli
from lightning_nas.hpo import CommandEvaluator, ConfigError, read_config
from lightning_nas.hpo.annotated_code import annotated_copy, annotated_space
from lightning_nas.hpo.annotation import annotated
from lightning_nas.space import Categorical, Float, Integer, Normal, Quantized
from lightning_nas.trial import Candidate, Status


def script(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def become(text: str, **parameters: Any) -> dict[str, Any]:
    """The names that a script has after a trial with these parameters, and what it reported."""
    found = annotated(script(text).encode(), "m", Path("m.py"))
    assert found is not None
    told: list[Any] = []

    class Told:
        get_next_parameter = staticmethod(
            lambda: {f"m/{k.replace('__', '/')}": v for k, v in parameters.items()}
        )
        report_intermediate_result = staticmethod(lambda metric: told.append(("intermediate", metric)))
        report_final_result = staticmethod(lambda metric: told.append(("final", metric)))

    names: dict[str, Any] = {"told": told}
    real = sys.modules.get("nni")
    sys.modules["nni"] = Told  # type: ignore[assignment]
    try:
        exec(compile(found.data, "m.py", "exec"), names)
    finally:
        del sys.modules["nni"]
        if real is not None:
            sys.modules["nni"] = real
    return names


ALL_TYPES = """
'''@nni.variable(nni.choice(50, "a", None, True), name=a)'''
a = 1
'''@nni.variable(nni.randint(0, 5), name=b)'''
b = 1
'''@nni.variable(nni.uniform(-1, 1), name=c)'''
c = 1
'''@nni.variable(nni.quniform(2, 10, 5), name=d)'''
d = 1
'''@nni.variable(nni.loguniform(1e-4, 1e-1), name=e)'''
e = 1
'''@nni.variable(nni.qloguniform(1, 100, 3), name=f)'''
f = 1
'''@nni.variable(nni.normal(0, 1), name=g)'''
g = 1
'''@nni.variable(nni.qnormal(0, 1, 0.5), name=h)'''
h = 1
'''@nni.variable(nni.lognormal(0, 1), name=i)'''
i = 1
'''@nni.variable(nni.qlognormal(0, 1, 1), name=j)'''
j = 1
"""


def test_all_ten_types_are_searched_under_nnis_labels(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(ALL_TYPES)
    assert dict(annotated_space(tmp_path).space) == {
        "train/a/choice": Categorical([50, "a", None, True]),
        "train/b/randint": Integer(0, 4),
        "train/c/uniform": Float(-1, 1),
        "train/d/quniform": Quantized(2, 10, 5),
        "train/e/loguniform": Float(1e-4, 1e-1, log=True),
        "train/f/qloguniform": Quantized(1, 100, 3, log=True),
        "train/g/normal": Normal(0, 1),
        "train/h/qnormal": Normal(0, 1, step=0.5),
        "train/i/lognormal": Normal(0, 1, log=True),
        "train/j/qlognormal": Normal(0, 1, log=True, step=1),
    }


def test_a_variable_gets_what_is_chosen_whatever_it_is() -> None:
    names = become(
        """
        class Net:
            depth = 2
            '''@nni.variable(nni.choice(depth, 2 * depth), name=width)'''
            width: int = 5
            def __init__(self):
                '''@nni.variable(nni.uniform(0, 1), name=self.rate)'''
                self.rate = 0.5; self.other = 7
        table = {}
        '''@nni.variable(nni.choice((3, 3), lambda x: x + 1), name=table["f"])'''
        table["f"] = (
            1,
            2,
        )
        net = Net()
        """,
        width__choice="2 * depth",
        **{"self.rate__uniform": 0.25, "table['f']__choice": "lambda x: x + 1"},
    )
    assert (names["Net"].width, names["net"].rate, names["net"].other) == (4, 0.25, 7)
    assert names["table"]["f"](1) == 2


def test_a_function_choice_computes_the_chosen_call_and_no_other() -> None:
    text = """
        called = []
        def plus(x, k=1): called.append("plus"); return x + k
        def times(x): called.append("times"); return 10 * x
        '''@nni.function_choice(
            plus(1),
            times(plus(2)), 2 ** 5, name=plus)'''
        a, b = plus(1), [plus(
            1)]
        '''@nni.report_final_result({"default": a})'''
        """
    names = become(text, plus__function_choice="times(plus(2))")
    assert (names["a"], names["b"]) == (30, [30])
    assert names["called"] == ["plus", "times"] * 2
    assert names["told"] == [("final", {"default": 30})]
    assert become(text, plus__function_choice="2 ** 5")["called"] == []


def test_reports_and_parameters_become_calls_within_any_block() -> None:
    names = become(
        """
        '''@nni.get_next_parameter()'''
        for i in range(2):
            try:
                if i:
                    pass
                else:
                    "@nni.report_intermediate_result(i + 0.5)"
            finally:
                '''
                @nni.report_intermediate_result(
                    i)
                '''; after = i
        '''this tells of @nni.report_final_result(x)'''
        """
    )
    assert names["told"] == [("intermediate", 0.5), ("intermediate", 0), ("intermediate", 1)]
    assert names["after"] == 1


def test_each_line_keeps_its_number_its_comment_and_its_encoding() -> None:
    text = script(
        """
        # -*- coding: latin-1 -*-
        é = 1; '''@nni.variable(nni.choice("ü", "o"), name=x)'''; x = "ö"  # ß
        '''@nni.report_final_result(
            x
        )'''
        y = x \\
            + x
        """
    )
    found = annotated(text.encode("latin-1"), "m", Path("m.py"))
    assert found is not None
    before, after = text.splitlines(), found.data.decode("latin-1").splitlines()
    assert len(after) == len(before)
    assert after[0] == before[0]
    assert after[1].endswith("['m/x/choice'])  # ß")
    assert after[-2:] == before[-2:]
    assert found.space == {"m/x/choice": {"_type": "choice", "_value": ["ü", "o"]}}


def test_one_name_searched_twice_alike_is_one_choice() -> None:
    names = become(
        """
        '''@nni.variable(nni.choice(1, 2), name=x)'''
        x = 1
        y = x
        '''@nni.variable(nni.choice(1, 2), name=x)'''
        x = 3
        """,
        x__choice=2,
    )
    assert (names["y"], names["x"]) == (2, 2)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("'''@nni.variabel(nni.choice(1), name=x)'''\nx = 1", 1, "did you mean @nni.variable?"),
        ("'''@nni.mutable_layers({})'''", 1, "there are variable, function_choice, get_next_parameter"),
        ("\n'''@nni.variable(nni.choice(1, name=x'''\nx = 1", 2, "is not Python: "),
        (
            "'''@nni.variable(nni.choice(1, 2))'''\nx = 1",
            1,
            "is written @nni.variable(nni.choice(1, 2), name=x)",
        ),
        ("'''@nni.variable(name=x)'''\nx = 1", 1, "is written @nni.variable"),
        (
            "'''@nni.variable(nni.pick(1), name=x)'''\nx = 1",
            1,
            "x takes one of nni.choice(...), nni.randint(...)",
        ),
        ("'''@nni.variable(3, name=x)'''\nx = 1", 1, "x takes one of nni.choice(...)"),
        (
            "'''@nni.variable(nni.choice(1, 2), name=x)'''\ny = 1",
            1,
            "an assignment to x must follow, but line 2",
        ),
        ("'''@nni.variable(nni.choice(1, 2), name=x)'''", 1, "an assignment to x must follow, but nothing"),
        ("'''@nni.variable(nni.choice(1, 2), name=x)'''\nx += 1", 1, "an assignment to x must follow"),
        ("'''@nni.variable(nni.choice(1, 2), name=x)'''\nx = y = 1", 1, "an assignment to x must follow"),
        ("'''@nni.variable(nni.choice(), name=x)'''\nx = 1", 1, "choice takes at least one value"),
        (
            "'''@nni.variable(nni.uniform(0, n), name=x)'''\nx = 1",
            1,
            "nni.uniform takes numbers that are written",
        ),
        ("'''@nni.variable(nni.loguniform(1, 2, 3, 4), name=x)'''\nx = 1", 1, "loguniform takes [low, high]"),
        (
            "\n'''@nni.variable(nni.uniform(2, 1), name=x)'''\nx = 1",
            2,
            "uniform takes [low, high] with low < high",
        ),
        ("'''@nni.function_choice(f(), g(), name=f)'''\ng()", 1, "a statement with a call of f must follow"),
        ("'''@nni.function_choice(f(), g(), name=f)'''\nif x:\n    f()", 1, "a call of f must follow"),
        ("'''@nni.function_choice(f(), g(), name=f)'''\nx = f'{f()}'", 1, "a call of f must follow"),
        ("'''@nni.report_final_result()'''", 1, "is written report_final_result(metric), but got ()"),
        ("'''@nni.get_next_parameter(3)'''", 1, "is written get_next_parameter(), but got (3)"),
        (
            "'''@nni.variable(nni.choice(1, 2), name=x)'''\nx = 1\n'''@nni.variable(nni.choice(3), name=x)'''\nx = 2",
            3,
            "x/choice is searched differently in line 1",
        ),
        ("x = (1\n'''@nni.get_next_parameter()'''", 1, "it cannot be read as Python: "),
        (
            "'''@nni.get_next_parameter()'''\nfrom __future__ import annotations",
            2,
            "no longer Python: from __future__",
        ),
    ],
)
def test_a_wrong_annotation_is_told_in_one_line_with_its_own(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    (tmp_path / "main.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        annotated_space(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'main.py'}, line {line}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_without_an_annotation_is_named(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("text = '@nni.variable'\n'''@nni.report_final_result(1)'''")
    with pytest.raises(
        ConfigError, match=f"{tmp_path}: no Python file has an annotation of something to search"
    ):
        annotated_space(tmp_path)


# ---------------------------------------------------------------- the copy


def project(folder: Path) -> Path:
    """Code with a package, data beside and in it, and what is no code of it."""
    code = folder / "code"
    for name in ("models", "data/raw", "made/trials", ".hidden", "env"):
        (code / name).mkdir(parents=True)
    (code / "main.py").write_text("#!/usr/bin/env python\nimport models.net\n")
    (code / "main.py").chmod(0o755)
    (code / "models" / "net.py").write_text("'''@nni.variable(nni.choice(1, 2), name=n)'''\nn = 1\n")
    wrong = "'''@nni.variable(nonsense)'''"
    for name in ("made/experiment.db", "env/pyvenv.cfg", "data/raw/x.csv"):
        (code / name).write_text("5")
    for name in ("made/trials/copy.py", "env/lib.py", ".hidden/x.py"):
        (code / name).write_text(wrong)
    (folder / "beside").mkdir()
    (folder / "beside" / "y.csv").write_text("6")
    (folder / "outside.py").write_text("'''@nni.variable(nni.choice(3), name=m)'''\nm = 1\n")
    (code / "linked.py").symlink_to("../outside.py")
    (code / "loop").symlink_to(".")
    (code / "dangling").symlink_to("nowhere")
    return code


def test_the_copy_holds_all_python_files_and_links_to_the_rest(tmp_path: Path) -> None:
    code = project(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in sorted(code.rglob("*")) if path.exists()}
    assert list(annotated_space(code).space) == ["linked/m/choice", "models.net/n/choice"]
    into = tmp_path / "into"
    into.mkdir()
    copy = annotated_copy(code, into)
    assert copy.name == "code"
    for name in ("main.py", "models/net.py", "linked.py"):
        assert (copy / name).is_file()
        assert not (copy / name).is_symlink()
    assert os.access(copy / "main.py", os.X_OK)
    for name in ("data", "made", "env", ".hidden", "loop", "dangling"):
        assert (copy / name).is_symlink()
    assert (copy / "data" / "raw" / "x.csv").read_text() == "5"
    assert (copy / ".." / "beside" / "y.csv").read_text() == "6"
    assert {path: path.stat().st_mtime_ns for path in sorted(code.rglob("*")) if path.exists()} == before
    # The same content has one copy, other content another.
    assert annotated_copy(code, into) == copy
    (code / "main.py").write_text("import models.net  # changed\n")
    assert annotated_copy(code, into) != copy
    assert len(list(into.iterdir())) == 2


def test_a_large_folder_without_code_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "main.py").write_text("'''@nni.variable(nni.choice(1, 2), name=n)'''\nn = 1\n")
    for i in range(201):
        (tmp_path / "images" / f"class{i}").mkdir(parents=True)
    scanned: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(str(path)) or scan(path))
    annotated_space(tmp_path)
    assert scanned == [str(tmp_path), str(tmp_path / "images")]


def test_a_script_imports_the_copies_and_reads_its_data(tmp_path: Path) -> None:
    code = project(tmp_path)
    (code / "main.py").write_text(
        script(
            """
            import nni
            from models.net import n
            total = n + int(open("data/raw/x.csv").read()) + int(open("../beside/y.csv").read())
            nni.report_final_result(total)
            """
        )
    )
    trials = tmp_path / "trials"
    for number, n in enumerate((1, 2)):
        sample = {"models.net/n/choice": n, "linked/m/choice": 3}
        candidate = Candidate(number, sample, object, trials / str(number))
        evaluator = CommandEvaluator("python main.py", code, annotated_space(code), is_annotated=True)
        assert evaluator.evaluate(candidate, lambda *_: True) == {"default": n + 11}


# ---------------------------------------------------------------- whole experiments

CONFIG = """authorName: somebody
experimentName: annotated
trialConcurrency: 2
maxExecDuration: 1h
maxTrialNum: 6
#choice: local, remote, pai, kubeflow
trainingServicePlatform: local
#choice: true, false, default: false
useAnnotation: true
tuner:
  #choice: TPE, Random, Anneal, Evolution
  builtinTunerName: Random
  classArgs:
    #choice: maximize, minimize
    optimize_mode: maximize
  gpuIndices:
trial:
  command: python3 mnist.py # Specifies the command to run trial process.
  codeDir: . # Specifies the directory of the own trial file.
  gpuNum: 0 # Specifies the num of gpu to run the trial process. Default value is 0.

#machineList can be empty if the platform is local
machineList:
  - ip:
    port:
    username:
    passwd:
"""

# The annotations as printed around a TensorFlow 1 session, line by line; the network is a linear classifier with
# dropout, in plain Python, of points on two sides of a line.
SCRIPT = """import random

random.seed(0)
points = [(random.gauss(0, 1), random.gauss(0, 1)) for _ in range(600)]
weights = [0.0, 0.0]


def accuracy(points):
    return sum((weights[0] * x + weights[1] * y > 0) == (x + y > 0) for x, y in points) / len(points)


def train_step(batch, rate):
    for point in batch:
        kept = [0 if random.random() < rate else value / (1 - rate) for value in point]
        error = (1 if sum(point) > 0 else -1) - sum(w * value for w, value in zip(weights, kept))
        for k in (0, 1):
            weights[k] += 0.1 * error * kept[k] / len(batch)


if __name__ == "__main__":
    \"\"\"@nni.variable(nni.choice(50, 250, 500), name=batch_size)\"\"\"
    batch_size = 128
    for i in range(100):
        batch = random.sample(points[:500], batch_size)
        \"\"\"@nni.variable(nni.choice(0.1, 0.5), name=dropout_rate)\"\"\"
        dropout_rate = 0.5
        train_step(batch, dropout_rate)
        if i % 25 == 0:
            test_acc = accuracy(points[500:])
            \"\"\"@nni.report_intermediate_result(test_acc)\"\"\"

    test_acc = accuracy(points[500:])
    \"\"\"@nni.report_final_result(test_acc)\"\"\"
    print(batch_size, dropout_rate)
"""


@pytest.mark.slow
def test_the_printed_annotations_run_to_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mnist.py").write_text(SCRIPT)
    config, made = tmp_path / "config.yml", tmp_path / "made"
    config.write_text(CONFIG)
    assert cli.main(["validate", str(config)]) == 0
    assert "right; 2 labels, 6 trials, 2 at the same time" in capsys.readouterr().out
    assert cli.main(["create", "--config", str(config), "--directory", str(made), "--foreground"]) == 0
    done = Experiment.resume(made).trials
    assert [trial.status for trial in done] == [Status.COMPLETED] * 6
    # All six samples once: three batch sizes by two rates.
    assert {tuple(sorted(trial.sample.items())) for trial in done} == {
        (("mnist/batch_size/choice", size), ("mnist/dropout_rate/choice", rate))
        for size in (50, 250, 500)
        for rate in (0.1, 0.5)
    }
    for trial in done:
        assert len(trial.intermediate) == 4
        assert trial.metrics["default"] > 0.9
        said = (made / "trials" / str(trial.number) / "trial.stdout").read_text().split()
        assert [float(word) for word in said] == list(trial.sample.values())
    assert (tmp_path / "mnist.py").read_text() == SCRIPT
    # Alone, without NNI, it runs with its own values.
    alone = subprocess.run(
        [sys.executable, "mnist.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert alone.stdout == "128 0.5\n"


def test_a_traceback_shows_the_users_line(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "'''@nni.variable(nni.choice(0), name=x)'''\nx = 1\n'''@nni.report_intermediate_result(x)'''\ny = 1 / x\n"
    )
    evaluator = CommandEvaluator("python main.py", tmp_path, annotated_space(tmp_path), is_annotated=True)
    candidate = Candidate(0, {"main/x/choice": 0}, object, tmp_path / "trials" / "0")
    with pytest.raises(Exception, match=r'main.py", line 4, in <module>\n    y = 1 / x'):
        evaluator.evaluate(candidate, lambda *_: True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("useAnnotation: true", "useAnnotation: true\nsearchSpacePath: s.json"),
            "give it or 'useAnnotation', not both",
        ),
        (("codeDir: .", "codeDir: nowhere"), "the code directory .*nowhere does not exist"),
        (("codeDir: .", "codeDir: empty"), "empty: no Python file has an annotation"),
        (("python3 mnist.py", "python3 {here}/mnist.py"), "write paths relative to the code directory"),
        (("python3 mnist.py", "cd {here} && python3 mnist.py"), "write paths relative to the code directory"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_and_nothing_is_made(
    tmp_path: Path, change: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "mnist.py").touch()
    (tmp_path / "mnist.py").write_text(SCRIPT)
    config = tmp_path / "config.yml"
    config.write_text(CONFIG.replace(change[0], change[1].format(here=tmp_path)))
    with pytest.raises(ConfigError, match=message):
        read_config(config)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["create", "--config", str(config), "--directory", str(tmp_path / "made")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
