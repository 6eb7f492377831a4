"""A model as a graph, and a key that samples share exactly if they give the same architecture."""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from lightning_nas.errors import SpaceError
from lightning_nas.mutables import chooser as choosers
from lightning_nas.mutables.blueprint import Blueprint, normalised
from lightning_nas.mutables.choice import Choice
from lightning_nas.mutables.chooser import Chooser, Defaults
from lightning_nas.mutables.expansion import Parts, Ref, spelt
from lightning_nas.mutables.fingerprint import describe, holds_constants
from lightning_nas.mutables.probe import untouched_random_states as untouched_random_states
from lightning_nas.mutables.regions import TracedSpace
from lightning_nas.mutables.tracing import Step, Traced, leaves, replaced, trace_model
from lightning_nas.space import Domain, value_key

if TYPE_CHECKING:
    import networkx

_KEPT_MODELS = 32
"""How many models of one space are kept traced, for samples that differ in layers only."""


def graph(model: nn.Module) -> networkx.DiGraph[Any]:
    """A model, or a model space with its choices as single nodes, as a directed graph.

    Returns:
        A node for each operation, in the order of execution, named by the path of its module or by its
        function (`conv1`, `relu`, `relu_2`). Its attributes: `op` ("input", "parameter", "module",
        "function", "method", "choice" or "output"); `path` of the module or parameter, "" for
        others; `descriptor`, a text that is equal for equal operations; `labels`, those of a choice. An
        edge leads from a value to the operation that takes it; its attribute `positions` lists which
        of the tensors it takes that is, counted from 0. What the output does not depend on is left out.

    Raises:
        SpaceError: if `torch.fx` cannot trace the forward pass.
    """
    traced, inputs = _traced(model)
    drawing = _Drawing()
    for node, name in zip(traced.inputs, inputs):
        drawing.add(node, name, (), op="input", path="", descriptor="input", labels=())
    for step in traced.steps:
        name = step.path or step.name.rpartition(".")[2]
        drawing.add(step.node, name, (step.node.args, step.node.kwargs), **_attributes(step))
    drawing.add(None, "output", traced.output, op="output", path="", descriptor="output", labels=())
    drawing.prune()
    return drawing.graph


class _Drawing:
    """A graph of named nodes in the making."""

    def __init__(self) -> None:
        import networkx

        self.graph: networkx.DiGraph[Any] = networkx.DiGraph()
        self._names: dict[fx.Node | None, str] = {}

    def add(self, node: fx.Node | None, name: str, takes: Any, **attributes: Any) -> None:
        """Adds a node called `name`, or `name_2` and so on if there is one, and the edges into it."""
        number = 1
        while (unique := name if number == 1 else f"{name}_{number}") in self.graph:
            number += 1
        self._names[node] = unique
        self.graph.add_node(unique, **attributes)
        positions: dict[str, list[int]] = {}
        for position, source in enumerate(leaf for leaf in leaves(takes) if isinstance(leaf, fx.Node)):
            positions.setdefault(self._names[source], []).append(position)
        for source_name, found in positions.items():
            self.graph.add_edge(source_name, unique, positions=tuple(found))

    def prune(self) -> None:
        """Drops what the last node does not depend on."""
        import networkx

        last = list(self.graph)[-1]
        needed = networkx.ancestors(self.graph, last) | {last}
        self.graph.remove_nodes_from([name for name in self.graph if name not in needed])


def _attributes(step: Step) -> dict[str, Any]:
    labels: tuple[str, ...] = ()
    arguments = _spelt_nodes((step.node.args, step.node.kwargs))
    if step.node.op == "get_attr":
        op, what, arguments = "parameter", describe(step.part), ""
    elif isinstance(step.part, Choice):
        labels = tuple(step.part.domains(step.part.label or step.path))
        op, what = "choice", f"{type(step.part).__name__}{list(labels)}"
    elif step.part is not None:
        op, what = "module", describe(step.part)
    else:
        op, what = step.node.op.removeprefix("call_"), step.name
    return {"op": op, "path": step.path, "descriptor": what + arguments, "labels": labels}


def _spelt_nodes(value: Any) -> str:
    return spelt(replaced(value, lambda a: Ref(0) if isinstance(a, fx.Node) else a), [])


def _traced(model: nn.Module) -> tuple[Traced, tuple[str, ...]]:
    try:
        return trace_model(model)
    except Exception as error:
        raise SpaceError(
            f"torch.fx cannot trace the forward pass of {type(model).__name__}: {error}. Move the part that depends "
            "on the data into a module of its own, which then counts as one operation."
        ) from error


def graph_key(net: nn.Module, sample: Mapping[str, Any]) -> str:
    """A text that is equal for two samples of a model space exactly if their architectures are.

    Architectures are the same if their graphs are isomorphic, once operations are pruned that the output
    does not depend on, `Zero`s are removed with all that follows from them alone, and `Identity`s and
    sums of one term are contracted. Sums count without order and grouping. Layers that are used twice
    differ from two equal layers. A candidate of a choice is one operation, told apart by its class,
    its attributes and the shapes of its weights; what holds further choices is looked into.

    The model is traced once for each assignment of value choices, and samples are put into its
    graph; the graph is cut where all data passes through one value, and the form of each part is kept.

    Args:
        net: an instance of a class under `model_wrapper`.
        sample: a value for each active label, in our form or as NNI exported it.

    Raises:
        SampleError: if `sample` does not fit the space.
        SpaceError: if `torch.fx` cannot trace the forward pass.
        TypeError: if `net` is no instance of a class under `model_wrapper`, or was built from a sample.
    """
    if net not in _spaces:
        blueprint = vars(net).get("_blueprint")
        if not isinstance(blueprint, Blueprint):
            raise TypeError(
                f"A graph key needs a model space, but {type(net).__name__} has no choices (left)."
            )
        _spaces[net] = _Space(blueprint)
    return _spaces[net].key(sample)


class _Space:
    """The traced models of one space, by the values that its constructor sees."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._models: OrderedDict[Hashable, _Model] = OrderedDict()
        self._of_layers: set[str] = set()
        self._of_values: set[str] = set()

    def key(self, sample: Mapping[str, Any]) -> str:
        space = self._blueprint.space
        sample = space.check(normalised(space, sample))
        if self._blueprint.mutators:
            return _Model(self._blueprint, sample).traced_space.key(sample)
        while True:
            assignment = self._assignment(sample)
            model = self._models.pop(assignment, None) or _Model(self._blueprint, sample)
            key = model.traced_space.key(sample)
            late = model.value_labels & self._of_layers - self._of_values
            self._of_layers |= model.traced_space.layer_labels
            self._of_values |= model.value_labels
            if late:  # a label that was taken for a layer's only: the models kept are told apart too little
                self._models.clear()
                continue
            self._models[self._assignment(sample)] = model
            if len(self._models) > _KEPT_MODELS:
                self._models.popitem(last=False)
            return key

    def _assignment(self, sample: Mapping[str, Any]) -> Hashable:
        only_layers = self._of_layers - self._of_values
        return tuple([(n, value_key(v)) for n, v in sample.items() if n not in only_layers])


_spaces: weakref.WeakKeyDictionary[nn.Module, _Space] = weakref.WeakKeyDictionary()


class _Given(Defaults):
    """Value choices as the sample says; choices among modules stay choices."""

    def __init__(self, sample: Mapping[str, Any]) -> None:
        super().__init__()
        self.value_labels: set[str] = set()
        self._sample = sample

    def _decide(self, label: str, domain: Domain, site: choosers.Site) -> Any:
        return self._sample.get(label, domain.default)

    def on_value(self, label: str, value: Any, frame: Any) -> None:
        self.value_labels.add(label)


class _Model:
    """A traced model whose values are those of one sample and whose layers are still to be chosen.

    Args:
        blueprint: of the space.
        sample: gives the values; with mutators, which edit a finished model, also the layers.
    """

    def __init__(self, blueprint: Blueprint, sample: Mapping[str, Any]) -> None:
        self._chooser = _Given(sample)
        self._device = "meta"
        model = self._made(blueprint, choosers.Fixed(sample) if blueprint.mutators else self._chooser)
        self.traced_space = TracedSpace(_traced(model)[0], Parts(self._making))

    @property
    def value_labels(self) -> set[str]:
        """The labels of the values that the constructor asked for."""
        return self._chooser.value_labels

    def _made(self, blueprint: Blueprint, chooser: Chooser) -> nn.Module:
        """The model without weights, or with them where the constructor or a key needs numbers."""
        with untouched_random_states():
            with contextlib.suppress(Exception), torch.device("meta"):
                model = blueprint.run(chooser)
                if not holds_constants(model):
                    return model
            self._device = "cpu"
            chooser.restart()
            return blueprint.run(chooser)

    @contextlib.contextmanager
    def _making(self) -> Iterator[None]:
        with choosers.using(self._chooser), untouched_random_states(), torch.device(self._device):
            yield
