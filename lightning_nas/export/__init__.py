"""The winner leaves: as a dict, as plain-torch code, as ONNX, proved equal first."""

from lightning_nas.export.code import source_of
from lightning_nas.export.export import export_model

__all__ = ["export_model", "source_of"]
