"""One-shot search: supernets, and the Lightning callbacks that search them."""

from lightning_nas.oneshot.callback import OneShot
from lightning_nas.oneshot.darts import Darts
from lightning_nas.oneshot.gdas import GDAS
from lightning_nas.oneshot.health import Health
from lightning_nas.oneshot.pc_darts import PCDarts
from lightning_nas.oneshot.perturbation import perturbation_selection
from lightning_nas.oneshot.shared_weights import SharedWeights
from lightning_nas.oneshot.spos import SPOS
from lightning_nas.oneshot.step import Step, frozen
from lightning_nas.oneshot.supernet import Supernet, relax

__all__ = [
    "GDAS",
    "SPOS",
    "Darts",
    "Health",
    "OneShot",
    "PCDarts",
    "SharedWeights",
    "Step",
    "Supernet",
    "frozen",
    "perturbation_selection",
    "relax",
]
