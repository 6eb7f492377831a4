"""From a model with choices to a supernet that holds all of them, and from weights to a sample."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from lightning_nas.errors import SpaceError
from lightning_nas.mutables import Blueprint, Cell, Choice, InputChoice, LayerChoice, Repeat, blueprint
from lightning_nas.mutables import chooser as choosers
from lightning_nas.mutables.chooser import Chooser, Defaults, Site
from lightning_nas.mutables.finish import join, labeller, mapped, plain_attributes, untrace
from lightning_nas.mutables.values import Expression, expression_of
from lightning_nas.oneshot.mixed import Mixed, MixedCell, MixedInputs, MixedLayer, MixedRepeat, Relaxed
from lightning_nas.oneshot.sliced import Sliced, slice_layer
from lightning_nas.space import Categorical, Domain, SearchSpace
from lightning_nas.trial import Sample

_log = logging.getLogger(__name__)


class Supernet:
    """What `relax` made of a model: its mixed operations and sliced layers, by label.

    Args:
        root: the model, relaxed.
        spaces: the search spaces of the model spaces in it whose values are searched too.
    """

    def __init__(self, root: nn.Module, spaces: tuple[SearchSpace, ...] = ()) -> None:
        self.root = root
        self._spaces = spaces
        self.relaxed = [module for module in root.modules() if isinstance(module, Relaxed)]
        self._mixed: dict[str, Mixed] = {}
        self._values: dict[str, tuple[Any, ...]] = {}
        for module in self.relaxed:
            if isinstance(module, Mixed):
                known = self._mixed.setdefault(module.label, module)
                if known.shape != module.shape or known.names != module.names:
                    raise SpaceError(f"The label {module.label!r} is used twice with different candidates.")
            elif isinstance(module, Sliced):
                self._values.update(zip(module.labels, module.candidates))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of the alphas of each label: (k,), or (edges, k) for a cell."""
        shapes = {label: mixed.shape for label, mixed in self._mixed.items()}
        return {**shapes, **{label: (len(values),) for label, values in self._values.items()}}

    @property
    def names(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """For each label, what the rows of its alphas stand for, and the candidates."""
        names = {label: (mixed.rows, mixed.names) for label, mixed in self._mixed.items()}
        return {
            **names,
            **{label: (("",), tuple(map(str, values))) for label, values in self._values.items()},
        }

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights inside mixed operations and sliced layers."""
        seen: set[int] = set()
        for module in self.relaxed:
            for parameter in module.parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

    def mixed(self, label: str) -> Mixed | None:
        """The mixed operation of a label (one of them, where it is shared); None for a value."""
        return self._mixed.get(label)

    def activate(self, alphas: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the candidates."""
        return {
            label: self._mixed[label].activate(alpha) if label in self._mixed else alpha.softmax(-1)
            for label, alpha in alphas.items()
        }

    def receive(self, weights: Mapping[str, Tensor]) -> None:
        """Hands weights to every mixed operation and sliced layer, for the next forward passes."""
        for module in self.relaxed:
            module.receive(weights)

    def follow(self, sample: Mapping[str, Any] | None) -> None:
        """Makes the supernet compute what `sample` says, with the supernet's own parameters; None ends it."""
        for module in self.relaxed:
            module.follow(sample)

    def derive(self, weights: Mapping[str, Tensor]) -> Sample:
        """The sample that the weights speak for: active labels only."""
        weights = {label: weight.detach().float().cpu() for label, weight in weights.items()}
        chosen: Sample = {}
        for label, mixed in self._mixed.items():
            chosen.update(mixed.derive(weights[label]))
        for label, values in self._values.items():
            chosen[label] = values[int(weights[label].argmax())]
        kept: set[str] = set()
        self._collect(self.root, chosen, kept)
        for space in self._spaces:
            active = set(space.active(chosen))
            kept = {label for label in kept if label not in space or label in active} | active
        return {label: value for label, value in chosen.items() if label in kept}

    def _collect(self, module: nn.Module, chosen: Sample, kept: set[str]) -> None:
        """The labels that are reached through chosen parts only."""
        if isinstance(module, Sliced):
            kept.update(module.labels)
        if isinstance(module, Mixed):
            kept.update(module.derive(torch.zeros(module.shape)))
            for part in module.kept(chosen):
                self._collect(part, chosen, kept)
            return
        for child in module.children():
            self._collect(child, chosen, kept)


def relax(root: nn.Module, fast: bool = True) -> Supernet:
    """Puts a mixed operation in the place of each choice of a model. Changes `root` in place.

    A model space in it whose values are searched too is made anew at its widest, with fresh weights; the
    log says so.

    Args:
        root: any module, such as a LightningModule, with choices or model spaces inside.
        fast: let the edges of a cell share their work where its candidates are the hub's: equal up to float
            error, with the same parameters.

    Raises:
        SpaceError: if there is no choice, or one cannot be relaxed; the message names it.
    """
    spaces: list[SearchSpace] = []
    for path, module in _model_spaces(root):
        space = _widen(module, path)
        if space is not None:
            spaces.append(space)
    kinds = {(p.dtype, p.device) for p in root.parameters() if p.is_floating_point()}
    with choosers.using(Defaults()):
        _replace_choices(root)
    if len(kinds) == 1:  # candidates that are made only now join the others
        ((dtype, device),) = kinds
        root.to(dtype=dtype, device=device)
    _reject_untraced(root)
    supernet = Supernet(root, tuple(spaces))
    for module in supernet.relaxed:
        if isinstance(module, MixedCell):
            module.fast = fast
    if not supernet.relaxed:
        raise SpaceError(
            f"{type(root).__name__} has no choices to search: give it a LayerChoice, InputChoice, Repeat or Cell, or a "
            "model under @model_wrapper."
        )
    return supernet


class Widest(Defaults):
    """Numbers at their largest, all else at its default; values are traced."""

    def _decide(self, label: str, domain: Domain, site: Site) -> Any:
        values = domain.values if isinstance(domain, Categorical) else ()
        are_numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        return max(values) if values and are_numbers else domain.default


def _model_spaces(root: nn.Module) -> list[tuple[str, nn.Module]]:
    """The outermost model spaces in a model, with their paths."""
    found: list[tuple[str, nn.Module]] = []
    for path, module in root.named_modules():
        inside = any(outer == "" or path == outer or path.startswith(f"{outer}.") for outer, _ in found)
        if "_blueprint" in vars(module) and not inside:
            found.append((path, module))
    return found


def _widen(space: nn.Module, path: str) -> SearchSpace | None:
    """Makes a model space anew at its widest, sliced, if it has values; changes it in place.

    Returns:
        Its search space, or None if it has no values and was left as it is.
    """
    plan = blueprint(space)
    if plan.mutators:
        raise SpaceError(
            f"{type(space).__name__} has mutators, which edit a finished model; a multi-trial strategy can search them."
        )
    with torch.device("meta"):
        chooser, _, _ = _widest(plan)
    if not any(met.is_value for met in chooser.met.values()):
        return None
    chooser, wide, expressions = _widest(plan)
    domains = {label: met.domain for label, met in chooser.met.items() if met.is_value}
    handled = _slice(
        wide, expressions, {label: tuple(cast(Any, domain)) for label, domain in domains.items()}
    )
    handled |= {label for label, met in chooser.met.items() if not met.is_value}
    mixed = {module.label for module in wide.modules() if isinstance(module, Mixed)}
    handled |= mixed
    missing = sorted(set(plan.space) - handled)
    if missing:
        raise SpaceError(
            f"The value {missing[0]!r} cannot be searched in one shot: no layer's size follows from it alone. A "
            "multi-trial strategy can search it."
        )
    _check_values_do_not_build(plan, {label: d for label, d in domains.items() if label not in mixed})
    _log.info(
        "%s has searched values: it was made anew at its widest, with fresh weights.",
        path or type(space).__name__,
    )
    like = next(iter(space.parameters()), None)
    if like is not None:
        wide.to(dtype=like.dtype, device=like.device)
    wide.train(space.training)
    own = {"_modules", "_parameters", "_buffers"}
    is_lightning = any("lightning" in base.__module__ for base in type(space).__mro__)
    vars(space).update({k: v for k, v in vars(wide).items() if not is_lightning or k in own})
    vars(space)["_blueprint"] = plan
    return plan.space


def _widest(plan: Blueprint) -> tuple[Chooser, nn.Module, dict[str, Expression]]:
    """A relaxed model of a space at its widest, and how its attributes follow from values."""
    chooser = Widest()
    model = plan.construct(chooser)
    with choosers.using(chooser):
        _replace_choices(model)
    return chooser, model, untrace(model)


def _slice(
    model: nn.Module, expressions: Mapping[str, Expression], values: Mapping[str, tuple[Any, ...]]
) -> set[str]:
    """Slices the layers that depend on values (in place); returns the labels they depend on."""
    by_module: dict[str, dict[str, Expression]] = {}
    for path, expression in expressions.items():
        owner, _, attribute = path.rpartition(".")
        by_module.setdefault(owner, {})[attribute] = expression
    handled: set[str] = set()
    for path, found in by_module.items():
        module = model.get_submodule(path)
        if type(module).__module__.startswith("torch."):
            handled.update(slice_layer(module, path, found, values).labels)
    return handled


def _check_values_do_not_build(plan: Blueprint, domains: Mapping[str, Domain]) -> None:
    """Raises SpaceError if a value decides which layers there are, not only how large they are."""

    def parameters(sample: Sample) -> list[str]:
        with torch.device("meta"):
            return [name for name, _ in plan.build(sample).named_parameters()]

    usual = plan.space.default()
    names = parameters(usual)
    for label, domain in domains.items():
        for value in cast(Any, domain) if label in usual else ():
            if parameters(plan.space.complete({**usual, label: value})) != names:
                raise SpaceError(
                    f"The value {label!r} cannot be searched in one shot: {value!r} makes other layers than "
                    f"{usual[label]!r} does. A multi-trial strategy can search it, or use Repeat."
                )


def _replace_choices(root: nn.Module) -> None:
    """Puts mixed operations in the places of choices, in place, under the chooser in use."""
    label_of = labeller()
    made: dict[int, nn.Module] = {}
    kept: list[Choice] = []  # keeps ids unique while `made` is in use

    def mix(choice: Choice, path: str) -> nn.Module:
        if id(choice) not in made:
            kept.append(choice)
            label = choice.label = label_of(choice, path)
            choice.choose(label)
            expression = expression_of(choice.depth) if isinstance(choice, Repeat) else None
            if isinstance(choice, Repeat) and not choice.domains(label):
                if expression is None or expression.function != "label":
                    made[id(choice)] = choice.chosen({}, label)
                else:
                    name = expression.arguments[0]
                    domain = cast(Chooser, choosers.current()).met[name].domain
                    made[id(choice)] = MixedRepeat(choice, name, tuple(cast(Any, domain)))
            else:
                made[id(choice)] = _mixed_for(choice, label)
            made[id(choice)].train(choice.training)
            walk(made[id(choice)], path)
        return made[id(choice)]

    def walk(module: nn.Module, path: str) -> None:
        if "_blueprint" in vars(module):
            path = ""  # labels are paths within their model space
        for name, child in list(module._modules.items()):
            if isinstance(child, Choice):
                module._modules[name] = mix(child, join(path, name))
            elif child is not None:
                walk(child, join(path, name))

    def replaced(path: str, value: Any) -> Any:
        if isinstance(value, Choice):
            if id(value) not in made:
                raise SpaceError(
                    f"The choice in `{path}` ({value.site}) is not part of the model: assign it to an attribute "
                    "of its module or put it in an nn.ModuleList."
                )
            return made[id(value)]
        return value

    walk(root, "")
    for module, name, path in list(plain_attributes(root)):
        if not type(module).__module__.startswith("torch.") and not isinstance(module, Relaxed):
            vars(module)[name] = mapped(vars(module)[name], partial(replaced, path))


def _reject_untraced(root: nn.Module) -> None:
    for module, name, path in plain_attributes(root):
        expression = expression_of(vars(module)[name])
        if expression is not None:
            raise SpaceError(
                f"The value {min(expression.labels)!r} (in `{path}`) was chosen outside a model space; put "
                "@model_wrapper on the class whose constructor chooses it."
            )


def _mixed_for(choice: Choice, label: str) -> Mixed:
    """The mixed operation for a choice.

    Raises:
        SpaceError: if there is none for choices of its kind.
    """
    for kind, mixed in (
        (LayerChoice, MixedLayer),
        (InputChoice, MixedInputs),
        (Repeat, MixedRepeat),
        (Cell, MixedCell),
    ):
        if isinstance(choice, kind):
            return cast(Any, mixed)(choice, label)  # type: ignore[no-any-return]
    raise SpaceError(
        f"The {type(choice).__name__} {label!r} ({choice.site}) cannot be searched in one shot; LayerChoice, "
        "InputChoice, Repeat and Cell can."
    )
