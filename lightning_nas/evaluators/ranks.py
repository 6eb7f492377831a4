"""How many processes a Trainer needs, and that nobody but the runner starts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OWN_PROCESSES = ("spawn", "fork", "notebook", "xla")  # strategies that start them from within


def ranks_in(arguments: Mapping[str, Any]) -> int:
    """How many processes must have been started for a Trainer with these arguments; 1 if it starts its own.

    `devices="auto"` and -1 count as one: of several GPUs a trial sees one.

    Raises:
        ValueError: if it is to train on several nodes.

    >>> ranks_in({"devices": 2}), ranks_in({"devices": [0, 1, 2]}), ranks_in({"devices": "auto"})
    (2, 3, 1)
    >>> ranks_in({"devices": 2, "strategy": "ddp_spawn"})
    1
    """
    nodes = arguments.get("num_nodes", 1)
    if nodes != 1:
        raise ValueError(f"A trial runs on one machine, but the Trainer was given num_nodes={nodes!r}.")
    strategy = arguments.get("strategy", "auto")
    name = strategy if isinstance(strategy, str) else getattr(strategy, "_start_method", "")
    if any(word in str(name) for word in _OWN_PROCESSES):
        return 1
    return max(1, _count(arguments.get("devices", "auto")))


def _count(devices: Any) -> int:
    """The number of devices that Lightning reads from what it is given; 1 where it depends on the machine."""
    if isinstance(devices, str):
        indices = [index for index in devices.split(",") if index.strip()]
        if len(indices) > 1 or "," in devices:
            return len(indices)
        return int(devices) if devices.strip().isdecimal() else 1
    if isinstance(devices, (list, tuple)):
        return len(devices)
    return devices if isinstance(devices, int) else 1


def check_launch(trainer: Any) -> None:
    """Raises ValueError if a trial's Trainer would start the user's script again, as its other ranks."""
    strategy = trainer.strategy
    if type(strategy.launcher).__name__ != "_SubprocessScriptLauncher":
        return
    if trainer.world_size > 1 and not strategy.cluster_environment.creates_processes_externally:
        raise ValueError(
            f"This Trainer needs {trainer.world_size} processes, and would start the script again to have them. Give "
            "the evaluator the Trainer's arguments instead of a Trainer, or use strategy='ddp_spawn'."
        )
