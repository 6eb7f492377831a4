"""Choices in a model, and the model space they make of it."""

from lightning_nas.mutables.blueprint import Blueprint
from lightning_nas.mutables.cell import Cell, ChosenCell
from lightning_nas.mutables.choice import Choice, ValueChoice
from lightning_nas.mutables.chooser import Event
from lightning_nas.mutables.layers import ChosenInputs, InputChoice, LayerChoice, Repeat, Zero
from lightning_nas.mutables.mutator import Mutator, ReplaceModules, SkipConnections
from lightning_nas.mutables.origins import origin_of
from lightning_nas.mutables.values import Expression
from lightning_nas.mutables.wrapper import blueprint, expressions, fixed_arch, model_wrapper

__all__ = [
    "Blueprint",
    "Cell",
    "Choice",
    "ChosenCell",
    "ChosenInputs",
    "Event",
    "Expression",
    "InputChoice",
    "LayerChoice",
    "Mutator",
    "Repeat",
    "ReplaceModules",
    "SkipConnections",
    "ValueChoice",
    "Zero",
    "blueprint",
    "expressions",
    "fixed_arch",
    "model_wrapper",
    "origin_of",
]
