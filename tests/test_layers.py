"""The map of the parts, and which part may import which: `docs/design.md` drawn as data.

Every import counts, wherever it stands: at the top, inside a function, under `TYPE_CHECKING`. The
one file outside the map is `lightning_nas/__init__.py`, the table of public names, which imports a
part only when one of its names is used.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lightning_nas"

TORCH = {"torch", "torchvision"}
LIGHTNING = {"lightning", "pytorch_lightning", "torchmetrics"}
ONNX = {"onnx", "onnxruntime", "onnxscript"}

# part -> (level, third-party packages it may import). A part imports lower levels and itself.
PARTS: dict[str, tuple[int, set[str]]] = {
    "errors": (0, set()),
    "loading": (0, set()),
    "space": (1, {"numpy"}),
    "trial": (2, {"numpy"}),
    "report": (2, {"numpy"}),
    "architecture": (2, set()),
    "search_history": (2, set()),
    "charts": (3, set()),
    "drawing": (3, set()),
    "strategies": (3, {"numpy"}),
    "stopping": (3, {"numpy"}),
    "mutables": (3, {"numpy", "networkx"} | TORCH),
    "nn": (3, TORCH),
    "evaluators": (4, {"numpy"} | TORCH | LIGHTNING),
    "export": (4, {"numpy"} | TORCH | ONNX),
    "hub": (4, {"numpy"} | TORCH),
    "importance": (4, {"optuna"}),
    "digits": (4, {"numpy"} | TORCH),
    "plots": (5, {"matplotlib"}),
    "oneshot": (5, {"numpy"} | TORCH | LIGHTNING),
    "experiment": (6, {"cloudpickle", "numpy", "rich"}),
    "demo": (7, {"numpy", "rich"} | TORCH | LIGHTNING),
    "hpo": (7, {"numpy", "yaml", "jsonargparse"} | TORCH | LIGHTNING),
    "html_report": (7, {"jinja2", "markupsafe"}),
    "dashboard": (8, {"fastapi", "nicegui", "starlette", "uvicorn"}),
    "cli": (9, {"rich"}),
}

# Two halves of one part each: `nn` shows the choices that `mutables` makes, `report` the running trial.
SAME_LEVEL = {("nn", "mutables"), ("report", "trial")}

# Third-party packages of single files, where the rest of their part must do without.
EXTRA: dict[str, set[str]] = {
    "lightning_nas.experiment.runners.child": {"torch"},
    "lightning_nas.experiment.runners.ranks": {"torch"},
    "lightning_nas.experiment.runners.ray_cluster": {"cloudpickle", "ray"},
    "lightning_nas.experiment.runners.ray_slot": {"cloudpickle", "ray"},
    "lightning_nas.mutables.chooser": {"executing"},
    "lightning_nas.strategies.cma_es": {"cmaes"},
    "lightning_nas.strategies.gp": {"optuna"},
    "lightning_nas.strategies.optuna_study": {"optuna"},
    "lightning_nas.strategies.tpe": {"optuna"},
}

# Published suites: they may import everything, and nothing but tests imports them.
TESTING = "testing"


@dataclass(frozen=True)
class Import:
    """`importer` (a module) imports `target` (a module) at `line`."""

    importer: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer} (line {self.line}) imports {self.target}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name: str) -> Iterator[Import]:
    """The imports of one module, wherever they stand in it; `from a import b` of a module b is `a.b`."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}, line {node.lineno}: write imports in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner != "lightning_nas.__version__":  # the one name that stands in the table's own file
                    yield Import(name, inner if inner in MODULES else str(node.module), node.lineno)


def part(module: str) -> str:
    return module.split(".")[1]


MAPPED = [name for name in MODULES if name != "lightning_nas" and part(name) != TESTING]
IMPORTS = [found for name in MAPPED for found in imports_of(name)]
OURS = [found for found in IMPORTS if found.target.startswith("lightning_nas.")]


def test_every_part_is_on_the_map_and_every_part_of_the_map_exists() -> None:
    assert {part(name) for name in MAPPED} == set(PARTS)


def test_no_part_imports_the_whole_package() -> None:
    assert [str(found) for found in IMPORTS if found.target == "lightning_nas"] == []


def test_a_part_imports_only_parts_beneath_it() -> None:
    def allowed(found: Import) -> bool:
        above, below = part(found.importer), part(found.target)
        return above == below or (above, below) in SAME_LEVEL or PARTS[below][0] < PARTS[above][0]

    found = [each for each in OURS if part(each.target) != TESTING]
    assert [str(each) for each in found if not allowed(each)] == []


def test_nothing_imports_the_published_suites() -> None:
    assert [str(found) for found in OURS if part(found.target) == TESTING] == []


def test_a_part_imports_only_the_libraries_it_is_allowed() -> None:
    def allowed(found: Import) -> bool:
        library = found.target.split(".")[0]
        return (
            library in sys.stdlib_module_names
            or library in PARTS[part(found.importer)][1]
            or library in EXTRA.get(found.importer, set())
        )

    theirs = [found for found in IMPORTS if found.target.split(".")[0] != "lightning_nas"]
    assert [str(found) for found in theirs if not allowed(found)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = nx.DiGraph()
    graph.add_edges_from((found.importer, found.target) for found in OURS if found.importer != found.target)
    assert [sorted(circle) for circle in nx.strongly_connected_components(graph) if len(circle) > 1] == []


@pytest.mark.parametrize("folder", ["benchmarks", "examples"])
def test_examples_and_benchmarks_use_public_names_only(folder: str) -> None:
    """A public name is one of a part's own; names and modules that start with `_` are not."""
    private = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "lightning_nas":
                words = [*str(node.module).split("."), *(alias.name for alias in node.names)]
                if any(word.startswith("_") for word in words):
                    private.append(f"{path.relative_to(ROOT)}, line {node.lineno}: {ast.unparse(node)}")
    assert private == []
