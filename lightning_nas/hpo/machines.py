"""The machines of NNI's remote training service, as a cluster file of Ray's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = "ray-cluster.yaml"

_NAMES = {
    "host": "host",
    "ip": "host",
    "port": "port",
    "user": "user",
    "username": "user",
    "password": "password",
    "passwd": "password",
    "sshkeyfile": "key",
    "sshkeypath": "key",
    "pythonpath": "python",
}
_WITHOUT_EFFECT = {"sshpassphrase", "passphrase", "useactivegpu", "precommand"}
# How many trials share a GPU is one number for all trials of a search; Ray counts a machine's GPUs itself.
_GPUS = {
    "maxtrialnumpergpu": "trials_per_gpu",
    "maxtrialnumberpergpu": "trials_per_gpu",
    "gpuindices": "gpu_indices",
}


class MachineError(ValueError):
    """A machine cannot be read; `keys` lead from the list to what is wrong."""

    def __init__(self, keys: tuple[Any, ...], message: str) -> None:
        super().__init__(message)
        self.keys = keys


@dataclass(frozen=True)
class Machine:
    """A machine of NNI's list.

    Args:
        host: its name or address.
        user: who logs in by SSH.
        port: of SSH.
        key: file of the SSH key; None for the usual ones.
        has_password: whether the list gives a password.
        python: a folder before all others on its PATH.
        trials_per_gpu: how many trials share one of its GPUs.
        has_gpu_indices: whether only some of its GPUs may be used.
    """

    host: str
    user: str
    port: int = 22
    key: str | None = None
    has_password: bool = False
    python: str | None = None
    trials_per_gpu: int = 1
    has_gpu_indices: bool = False


def read_machines(value: Any) -> tuple[Machine, ...]:
    """The machines of `machineList`, in any version's words.

    Raises:
        MachineError: if it is no list of machines with a host and a user.
    """
    if not isinstance(value, list) or not value:
        raise MachineError((), f"it must be a list of machines with host and user, but is {value!r}.")
    machines = tuple(_machine(each, place) for place, each in enumerate(value))
    hosts = [machine.host for machine in machines]
    for place, host in enumerate(hosts):
        if host in hosts[:place]:
            raise MachineError((place,), f"{host} is in the list twice.")
    return machines


def cluster_file(name: str, machines: Sequence[Machine]) -> str:
    """The text of a file for `ray up`: the first machine is the head, all others are workers."""
    head, *workers = machines
    auth: dict[str, Any] = {"ssh_user": head.user}
    if head.key is not None:
        auth["ssh_private_key"] = head.key
    path = f"PATH={shlex.quote(head.python)}:$PATH " if head.python is not None else ""
    cluster = {
        "cluster_name": re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-") or "search",
        "provider": {
            "type": "local",
            "head_ip": head.host,
            "worker_ips": [machine.host for machine in workers],
        },
        "auth": auth,
        "min_workers": len(workers),
        "max_workers": len(workers),
        "setup_commands": [f"{path}python -m pip install 'lightning-nas[ray]'"],
        "head_start_ray_commands": [
            f"{path}ray stop",
            f"{path}ray start --head --port=6379 --ray-client-server-port=10001 --disable-usage-stats "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [f"{path}ray stop", f"{path}ray start --address=$RAY_HEAD_IP:6379"],
    }
    notes = [f"# {line}\n" for line in (*_HOW, *_notes(machines))]
    return "".join(notes) + yaml.safe_dump(cluster, sort_keys=False, width=200)


_HOW = (
    "Start the cluster with `ray up ray-cluster.yaml`, end it with `ray down ray-cluster.yaml`.",
    "All machines need the same Python, and the trials' code and data under the same path.",
)


def _notes(machines: Sequence[Machine]) -> list[str]:
    """What the machine list says and a cluster file cannot."""
    head = machines[0]
    notes = [
        "Ray knows no passwords: put your key there with "
        f"`ssh-copy-id -p {machine.port} {machine.user}@{machine.host}`."
        for machine in machines
        if machine.has_password
    ]
    for machine in machines:
        said = {
            f"Port {machine.port}": machine.port != 22,
            f"IdentityFile {machine.key}": machine.key is not None and machine.key != head.key,
        }
        lines = [line for line, is_needed in said.items() if is_needed]
        if lines:
            notes.append(f"{machine.host} differs: put `{'; '.join(lines)}` under its Host in ~/.ssh/config.")
        if machine.user != head.user:
            notes.append(
                f"Ray logs in as {head.user} everywhere: {machine.host} has {machine.user} in the list."
            )
        if machine.has_gpu_indices:
            notes.append(
                f"{machine.host}: all its GPUs are used; set CUDA_VISIBLE_DEVICES before `ray start` for some."
            )
        if machine.python != head.python:
            notes.append(f"{machine.host} has its Python elsewhere: mend the commands for it.")
    return notes


def write_cluster_file(path: Path, name: str, machines: Sequence[Machine]) -> bool:
    """Writes the cluster file, unless there is one; whether it did."""
    try:
        with path.open("x") as file:
            file.write(cluster_file(name, machines))
    except FileExistsError:
        return False
    return True


def _machine(value: Any, place: int) -> Machine:
    if not isinstance(value, Mapping):
        raise MachineError((place,), f"it must be a mapping with host and user, but is {value!r}.")
    found: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    names = {**_NAMES, **_GPUS}
    for key, each in value.items():
        word = str(key).lower().replace("_", "")
        if word in _WITHOUT_EFFECT or each is None:
            continue
        if word not in names:
            raise MachineError((place, key), f"there is no such key; there are {', '.join(sorted(names))}.")
        found[names[word]], keys[names[word]] = each, key
    for name in ("host", "user"):
        if not isinstance(found.get(name), str) or not re.fullmatch(r"[\w.:@%+-]+", found[name]):
            raise MachineError((place,), f"it must have a {name}, a word, but has {found.get(name)!r}.")
    for name, default in (("port", 22), ("trials_per_gpu", 1)):
        number = found.get(name, default)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise MachineError(
                (place, keys[name]), f"it must be a whole number of at least 1, but is {number!r}."
            )
    return Machine(
        found["host"],
        found["user"],
        found.get("port", 22),
        None if "key" not in found else str(found["key"]),
        "password" in found,
        None if "python" not in found else str(found["python"]),
        found.get("trials_per_gpu", 1),
        "gpu_indices" in found,
    )
