"""Hyper-parameter search: NNI's search spaces, experiment files, tuners and trial scripts."""

from lightning_nas.hpo.documents import ConfigError
from lightning_nas.hpo.space_file import NNISpace, read_space, write_space

__all__ = ["ConfigError", "NNISpace", "read_space", "write_space"]
