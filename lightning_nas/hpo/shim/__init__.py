"""A folder for a trial's PYTHONPATH: the package `nni` in it stands in where NNI is not installed."""
