"""A function as evaluator, and a table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from two_points import SAMPLE, build, candidate, dataset, go_on

from lightning_nas import MetricError, current_sample, report_final_result, report_intermediate_result
from lightning_nas.evaluators import FunctionalEvaluator, TabularEvaluator


def evaluate(fn: Any, directory: Path, report: Any = go_on, **kwargs: Any) -> dict[str, float]:
    return FunctionalEvaluator(fn, **kwargs).evaluate(candidate(directory), report)


def test_a_number_is_the_default_metric(tmp_path: Path) -> None:
    assert evaluate(lambda model_cls: torch.tensor(0.25), tmp_path) == {"default": 0.25}


def test_a_reported_final_result_counts_whatever_is_returned(tmp_path: Path) -> None:
    def fn(model_cls: Any) -> Any:
        report_final_result({"acc": 0.5})
        return model_cls()

    assert evaluate(fn, tmp_path) == {"acc": 0.5}


def test_a_parameter_named_sample_is_given_a_copy_of_the_sample(tmp_path: Path) -> None:
    def fn(model_cls: Any, factor: float, sample: Any) -> float:
        return factor * sample.pop("width")

    evaluator, asked = FunctionalEvaluator(fn, factor=2), candidate(tmp_path)
    assert evaluator.evaluate(asked, go_on) == {"default": 8.0}
    assert asked.sample == SAMPLE


def test_a_search_without_a_model_needs_no_model_class(tmp_path: Path) -> None:
    assert evaluate(lambda sample: sample["width"], tmp_path) == {"default": 4.0}
    assert list(tmp_path.iterdir()) == []


def test_an_argument_named_sample_of_the_users_stays(tmp_path: Path) -> None:
    assert evaluate(lambda model_cls, sample: sample, tmp_path, sample=3) == {"default": 3.0}


def test_the_function_runs_within_its_trial(tmp_path: Path) -> None:
    def fn(model_cls: Any) -> float:
        return 1.0 if current_sample() == SAMPLE else 0.0

    assert evaluate(fn, tmp_path) == {"default": 1.0}
    assert current_sample() is None


@pytest.mark.parametrize(
    ("fn", "kwargs", "message"),
    [
        (3, {}, "takes a function, but got 3"),
        (lambda: 1.0, {}, "cannot call <lambda>"),
        (lambda model_cls: 1.0, {"epochs": 3}, "epochs=: got an unexpected keyword argument 'epochs'"),
        (lambda model_cls, epochs: 1.0, {}, "missing a required argument: 'epochs'"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_at_once(fn: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        FunctionalEvaluator(fn, **kwargs)


def test_no_result_is_an_error_that_says_how_to_give_one(tmp_path: Path) -> None:
    def fn(model_cls: Any) -> None:
        report_intermediate_result(0.5)

    with pytest.raises(MetricError, match="fn gave no result: it must return .* or call report_final_result"):
        evaluate(fn, tmp_path)


def test_a_result_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="'model' is of type Linear"):
        evaluate(lambda model_cls: {"model": nn.Linear(1, 1)}, tmp_path)


def test_a_stop_ends_the_function_and_the_last_report_counts(tmp_path: Path) -> None:
    passed = []

    def fn(model_cls: Any) -> None:
        for value in (0.1, 0.2, 0.3):
            report_intermediate_result({"acc": value})
            passed.append(value)

    assert evaluate(fn, tmp_path, report=lambda step, metrics: step < 1) == {"acc": 0.2}
    assert passed == [0.1]


def test_each_call_of_the_model_class_makes_a_fresh_model(tmp_path: Path) -> None:
    def fn(model_cls: Any) -> bool:
        first, second = model_cls(), model_cls()
        return not torch.equal(first[0].weight, second[0].weight)

    assert evaluate(fn, tmp_path) == {"default": 1.0}


def test_the_model_made_last_is_kept(tmp_path: Path) -> None:
    def fn(model_cls: Any) -> float:
        teacher, student = model_cls(), model_cls()
        for model, value in ((student, 2.0), (teacher, 1.0)):
            nn.init.constant_(model[0].weight, value)
            model.eval()(dataset().tensors[0] * value)
        return 1.0

    evaluate(fn, tmp_path)
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    (inputs,) = torch.load(tmp_path / "inputs.pt", weights_only=True)
    assert torch.equal(weights["0.weight"], torch.full((4, 4), 2.0))
    assert torch.equal(inputs, dataset().tensors[0][:8] * 2)


def test_no_hook_is_left_on_a_model(tmp_path: Path) -> None:
    models = []

    def fn(model_cls: Any) -> float:
        models.append(model_cls())
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        evaluate(fn, tmp_path)
    assert not models[0]._forward_pre_hooks


def test_what_build_makes_need_not_be_a_module(tmp_path: Path) -> None:
    evaluator = FunctionalEvaluator(lambda model_cls: model_cls())
    assert evaluator.evaluate(candidate(tmp_path, lambda: 0.5), go_on) == {"default": 0.5}


def test_the_repr_names_the_function_and_its_arguments() -> None:
    assert repr(FunctionalEvaluator(evaluate, directory=1)).startswith("FunctionalEvaluator(evaluate, dir")


def test_a_sample_that_a_table_lacks_is_named_with_a_key_that_it_has(tmp_path: Path) -> None:
    evaluator = TabularEvaluator({"a|b": 0.5}, key=lambda sample: sample["width"])
    with pytest.raises(MetricError, match=r"no result for 4, .*\{'width': 4\}; its 1 keys look like 'a|b'"):
        evaluator.evaluate(candidate(tmp_path, build), go_on)


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="`table` must hold a result for each sample, but it is empty"):
        TabularEvaluator({}, key=str)


def test_functions_and_tables_load_neither_torch_nor_lightning() -> None:
    program = (
        "import sys; from pathlib import Path; from lightning_nas.trial import Candidate;"
        "from lightning_nas.evaluators import FunctionalEvaluator, TabularEvaluator;"
        "candidate = Candidate(0, {'x': 1}, object, Path());"
        "FunctionalEvaluator(lambda sample: 1.0).evaluate(candidate, print);"
        "TabularEvaluator({1: 1.0}, lambda sample: 1).evaluate(candidate, print);"
        "sys.exit(' '.join({'torch', 'pytorch_lightning'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
