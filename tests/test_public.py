"""The public names: one list, checked in, so that a change of it is seen."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

import lightning_nas

PUBLIC = [
    "Candidate",
    "Categorical",
    "Classification",
    "Condition",
    "Darts",
    "Evaluator",
    "Experiment",
    "ExperimentError",
    "ExportError",
    "Float",
    "FunctionalEvaluator",
    "Integer",
    "LightningEvaluator",
    "MetricError",
    "NASError",
    "Objective",
    "Ray",
    "Regression",
    "ReportCallback",
    "SampleError",
    "SearchError",
    "SearchSpace",
    "SpaceError",
    "Status",
    "StoreError",
    "Subset",
    "TabularEvaluator",
    "Trial",
    "__version__",
    "best",
    "current_sample",
    "evaluators",
    "fixed_arch",
    "hpo",
    "hub",
    "model_wrapper",
    "mutables",
    "nn",
    "oneshot",
    "output_directory",
    "report_final_result",
    "report_intermediate_result",
    "space",
    "stopping",
    "strategies",
]


def type_checking_imports() -> dict[str, str]:
    """`{name: module}` as read from the `if TYPE_CHECKING:` block of the package."""
    tree = ast.parse(Path(lightning_nas.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, f"{alias.name} is not re-exported: write `as {alias.name}`"
            found[alias.name] = str(node.module)
    return found


def test_the_public_list_is_the_one_checked_in() -> None:
    assert sorted(lightning_nas.__all__) == PUBLIC


def test_the_table_equals_the_imports_that_type_checkers_see() -> None:
    table = {name: f"lightning_nas.{module}" for name, module in lightning_nas._NAMES.items()}
    parts = dict.fromkeys(lightning_nas._PARTS, "lightning_nas")
    assert type_checking_imports() == table | parts


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(lightning_nas, name) is not None
    assert name in dir(lightning_nas)


def test_a_public_name_is_the_object_of_its_module() -> None:
    for name, module in lightning_nas._NAMES.items():
        assert getattr(lightning_nas, name) is getattr(
            importlib.import_module(f"lightning_nas.{module}"), name
        )
    for name in lightning_nas._PARTS:
        assert isinstance(getattr(lightning_nas, name), types.ModuleType)


def test_a_star_import_brings_the_public_list() -> None:
    names: dict[str, object] = {}
    exec("from lightning_nas import *", names)
    assert sorted(set(names) - {"__builtins__"}) == PUBLIC


def test_an_unknown_name_suggests_a_close_one() -> None:
    with pytest.raises(AttributeError, match="module 'lightning_nas' has no attribute 'Serchspace'"):
        lightning_nas.Serchspace  # noqa: B018
    program = "import lightning_nas; lightning_nas.SerchSpace"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "Did you mean: 'SearchSpace'?" in done.stderr
