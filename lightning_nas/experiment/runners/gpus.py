"""Which GPUs each of several trials at the same time may use.

They are dealt out once, when the search begins: whoever runs a search here says which GPUs are his. `hpo.gpus` deals
them anew for each trial, as NNI's experiment files may ask to wait for GPUs that others use; and a share of a GPU's
memory (0.5 of it) can be set in a process of ours but not in a script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nas.errors import ExperimentError


@dataclass(frozen=True)
class Share:
    """What one trial may use.

    Args:
        visible: a value for CUDA_VISIBLE_DEVICES; None leaves the variable as it is.
        memory: how much of the memory of each visible GPU torch may take, in (0, 1]; None for all.
    """

    visible: str | None = None
    memory: float | None = None


def check_per_trial(per_trial: float | None) -> None:
    """Raises ValueError unless `per_trial` is None, an integer of at least 0, or between 0 and 1."""
    is_number = isinstance(per_trial, (int, float)) and not isinstance(per_trial, bool)
    if per_trial is not None and not (is_number and (0 < per_trial < 1 or per_trial in range(1025))):
        raise ValueError(
            f"`gpus_per_trial` must be None, 0, 1, 2, ... or a share such as 0.5, but got {per_trial!r}."
        )


def shares(gpus: Sequence[str], per_trial: float | None, concurrency: int) -> list[Share]:
    """What each trial gets of several at the same time: as many as there is room for, at most `concurrency`.

    Args:
        gpus: values of CUDA_VISIBLE_DEVICES.
        per_trial: None deals several GPUs out in turn and leaves a single one to all; 0 hides them; a
            fraction f puts `1 // f` trials on each, with that share of its memory; n gives each n of its own.
        concurrency: how many are wanted.

    Raises:
        ExperimentError: if there is no room for even one.

    >>> shares(["4", "6"], 0.5, 3)
    [Share(visible='4', memory=0.5), Share(visible='6', memory=0.5), Share(visible='4', memory=0.5)]
    """
    if per_trial is None:
        return [Share(gpus[slot % len(gpus)] if len(gpus) > 1 else None) for slot in range(concurrency)]
    if per_trial == 0:
        return [Share("")] * concurrency
    if per_trial < 1:
        on_each = int(1 / per_trial + 1e-9)  # 1 / 0.1 may be a little less than 10
        found = [Share(gpu, per_trial) for _ in range(on_each) for gpu in gpus]
    else:
        size = int(per_trial)
        found = [
            Share(",".join(gpus[start : start + size])) for start in range(0, len(gpus) - size + 1, size)
        ]
    if not found:
        raise ExperimentError(
            f"gpus_per_trial={per_trial} needs more GPUs than are visible here ({', '.join(gpus) or 'none'})."
        )
    return found[:concurrency]
