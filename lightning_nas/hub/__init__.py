"""Known model spaces, one file each, with their sources and published sizes."""

from lightning_nas.hub.darts import DARTS_OPERATIONS, DartsSpace, set_drop_path
from lightning_nas.hub.genotype import (
    AMOEBANET_A,
    DARTS_V1,
    DARTS_V2,
    NASNET_A,
    PC_DARTS_CIFAR,
    PC_DARTS_IMAGE,
    Genotype,
)
from lightning_nas.hub.mobilenetv3 import MobileNetV3Space
from lightning_nas.hub.nasbench201 import (
    NASBENCH201_OPERATIONS,
    NasBench201Space,
    from_arch_string,
    to_arch_string,
)

__all__ = [
    "AMOEBANET_A",
    "DARTS_OPERATIONS",
    "DARTS_V1",
    "DARTS_V2",
    "NASBENCH201_OPERATIONS",
    "NASNET_A",
    "PC_DARTS_CIFAR",
    "PC_DARTS_IMAGE",
    "DartsSpace",
    "Genotype",
    "MobileNetV3Space",
    "NasBench201Space",
    "from_arch_string",
    "set_drop_path",
    "to_arch_string",
]
