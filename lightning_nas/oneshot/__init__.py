"""One-shot search: supernets, and the Lightning callbacks that search them."""

from lightning_nas.oneshot.callback import OneShot, Step, frozen
from lightning_nas.oneshot.darts import Darts
from lightning_nas.oneshot.health import Health
from lightning_nas.oneshot.supernet import Supernet, relax

__all__ = ["Darts", "Health", "OneShot", "Step", "Supernet", "frozen", "relax"]
