"""Drawings of architectures as SVG, made without torch.

    cells_svg(sample)              the cells that a sample describes
    network_svg(architecture)      a whole network, large ones folded into blocks
    difference_svg(before, after)  two networks side by side

Each is a whole document that also stands in a page as it is; colours are CSS variables (see `palette`).
"""

from lightning_nas.drawing.cells import cell_svg, cells_svg
from lightning_nas.drawing.difference import difference_svg
from lightning_nas.drawing.network import network_svg
from lightning_nas.drawing.palette import DARK, LIGHT, declarations

__all__ = ["DARK", "LIGHT", "cell_svg", "cells_svg", "declarations", "difference_svg", "network_svg"]
