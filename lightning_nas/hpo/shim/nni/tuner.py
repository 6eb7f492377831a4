"""The base class of NNI's tuners."""

from __future__ import annotations

from typing import Any


class Tuner:
    """What a tuner of the user's may override; only `generate_parameters` is needed."""

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Is given the search space, in NNI's format, before anything else."""

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """The parameters of a new trial; raises `NoMoreTrialError` if there are no more."""
        raise NotImplementedError("A tuner needs the method `generate_parameters`.")

    def receive_trial_result(
        self, parameter_id: int, parameters: dict[str, Any], value: Any, **kwargs: Any
    ) -> None:
        """Is given the final result of a trial."""

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Is told that a trial has ended."""
