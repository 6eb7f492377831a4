"""Neural architecture search and hyper-parameter search for PyTorch Lightning."""
