"""An evaluator made of a user's own function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lightning_nas.errors import MetricError
from lightning_nas.report import RunningTrial, TrialStopped, running
from lightning_nas.trial import Candidate, Metrics, Report, as_metrics

if TYPE_CHECKING:
    from lightning_nas.evaluators.artifacts import Recorder


class FunctionalEvaluator:
    """Evaluates a candidate by calling a function that trains and scores it.

    Args:
        fn: `fn(model_cls)`; each call `model_cls()` makes the candidate's model with fresh weights. A
            parameter named `sample` is given the sample; as the first and only one, `fn(sample)`, it does
            for a search without a model. `fn` returns a number or a dict of numbers, or hands them to
            `report_final_result`, which counts if it does both. In between it may call
            `report_intermediate_result`, which ends `fn` there if a stopping rule says so.
        kwargs: further arguments of `fn`.

    Raises:
        TypeError: if `fn` cannot be called like this.

    The model made last leaves its weights and example inputs in the trial's folder.

    Example:
        >>> from pathlib import Path
        >>> from lightning_nas.trial import Candidate
        >>> def distance(sample, target):
        ...     return {"distance": abs(sample["x"] - target)}
        >>> evaluator = FunctionalEvaluator(distance, target=3)
        >>> evaluator.evaluate(Candidate(0, {"x": 5}, build=object, directory=Path()), lambda *_: True)
        {'distance': 2.0}

    Source: `FunctionalEvaluator` of NNI (Retiarii).
    """

    def __init__(self, fn: Callable[..., Any], /, **kwargs: Any) -> None:
        if not callable(fn):
            raise TypeError(f"FunctionalEvaluator takes a function, but got {fn!r}.")
        self.fn = fn
        self.kwargs = kwargs
        signature = inspect.signature(fn)
        names = list(signature.parameters)
        self._takes_model = names[:1] != ["sample"]
        self._takes_sample = "sample" in names and "sample" not in kwargs
        args, named = self._arguments(None, {})
        try:
            signature.bind(*args, **named)
        except TypeError as error:
            name = getattr(fn, "__name__", repr(fn))
            raise TypeError(
                f"FunctionalEvaluator cannot call {name}{signature} with the model class"
                f"{''.join(f', {key}=' for key in kwargs)}: {error}."
            ) from None

    def evaluate(self, candidate: Candidate, report: Report) -> Metrics:
        """Calls the function and returns what it returned or reported.

        Raises:
            MetricError: if it did neither, or not with numbers.
            Exception: what the function raises.
        """
        last: Metrics = {}

        def remembered(step: int, metrics: Mapping[str, float]) -> bool:
            last.clear()
            last.update(metrics)
            return report(step, metrics)

        with running(candidate, remembered) as trial, _ModelClass(candidate) as model_cls:
            args, kwargs = self._arguments(model_cls, dict(candidate.sample))
            try:
                metrics = self._result(self.fn(*args, **kwargs), trial)
            except TrialStopped:
                metrics = trial.final or last
            model_cls.save()
            return metrics

    def _arguments(self, model_cls: Any, sample: Any) -> tuple[list[Any], dict[str, Any]]:
        args = [model_cls] if self._takes_model else [sample]
        named = {"sample": sample} if self._takes_model and self._takes_sample else {}
        return args, {**self.kwargs, **named}

    def _result(self, returned: Any, trial: RunningTrial) -> Metrics:
        if trial.final is not None:
            return trial.final
        if returned is None:
            raise MetricError(
                f"{getattr(self.fn, '__name__', self.fn)} gave no result: it must return a number or a dict of "
                "numbers, or call report_final_result."
            )
        return as_metrics(returned)

    def __repr__(self) -> str:
        name = getattr(self.fn, "__qualname__", repr(self.fn))
        return f"FunctionalEvaluator({', '.join([name, *(f'{k}={v!r}' for k, v in self.kwargs.items())])})"


class _ModelClass:
    """What a function is given for the model's class: called without arguments, it makes the model."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._recorder: Recorder | None = None

    def __enter__(self) -> _ModelClass:
        return self

    def __exit__(self, *error: object) -> None:
        if self._recorder is not None:
            self._recorder.close()

    def __call__(self) -> Any:
        model = self._candidate.build()
        from torch import nn  # only here: a search without a model may do without torch

        from lightning_nas.evaluators.artifacts import Recorder

        if isinstance(model, nn.Module):
            self._recorder = self._recorder or Recorder()
            self._recorder.watch(model)
        return model

    def save(self) -> None:
        """Writes the files of the model made last into the trial's folder."""
        if self._recorder is not None:
            self._recorder.save(self._candidate.directory)
