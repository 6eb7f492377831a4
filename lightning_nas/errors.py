"""The errors a caller may want to catch.

    NASError
    ├── SpaceError (ValueError)       a search space or model space contradicts itself
    ├── SampleError (ValueError)      a sample does not fit its space
    ├── MetricError (ValueError)      a metric is missing, of the wrong type or not finite
    ├── SearchError                   a one-shot search cannot begin or go on
    ├── ExportError                   a model could not be exported, or its export differs
    └── ExperimentError               an experiment's folder, store or settings are unusable
        └── StoreError                a store cannot be read or written

A wrong argument of a function raises a plain `ValueError` or `TypeError`.
"""

from __future__ import annotations


class NASError(Exception):
    """What lightning-nas raises when the trouble is not simply a wrong argument."""


class SpaceError(NASError, ValueError):
    """A search space or a model space contradicts itself."""


class SampleError(NASError, ValueError):
    """A sample does not fit its search space; the message gives the label and the right form."""


class MetricError(NASError, ValueError):
    """A metric is missing, of the wrong type or not finite."""


class SearchError(NASError):
    """A one-shot search cannot begin or go on; the message says why."""


class ExportError(NASError):
    """A model could not be exported, or the export does not compute what the model computes."""


class ExperimentError(NASError):
    """An experiment's folder, store or settings are unusable."""


class StoreError(ExperimentError):
    """A store of trials cannot be read or written."""
