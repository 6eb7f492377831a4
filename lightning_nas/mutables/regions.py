"""A traced model space, cut into regions whose canonical forms are kept from sample to sample."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from lightning_nas.mutables.canonical import VANISHED, Node, primes, simplify
from lightning_nas.mutables.choice import Choice
from lightning_nas.mutables.expansion import Expander, Parts, Ref, digest, looked_up, spelt
from lightning_nas.mutables.layers import InputChoice, LayerChoice
from lightning_nas.mutables.tracing import Step, Traced, replaced
from lightning_nas.space import value_key

_ZERO = digest(repr(VANISHED[0]))

_KEPT_OUTCOMES = 1 << 15
"""How many samples' forms of one region are kept: more than NAS-Bench-201 has cells."""


@dataclass(eq=False)
class _Region:
    """The steps between two values through which all data passes.

    Args:
        steps: numbers of the steps.
        entry: the value it starts from; None for the region with the model's inputs.
        exit: the value it ends with; None for the model's output.
    """

    steps: tuple[int, ...]
    entry: fx.Node | None = None
    exit: fx.Node | None = None
    labels: list[str] = field(default_factory=list)
    outcomes: dict[Hashable, _Outcome] = field(default_factory=dict)


@dataclass(frozen=True)
class _Outcome:
    """What a region is for one sample.

    Args:
        forms: short texts of the forms of its parts, joined.
        has_constants: it holds operations without inputs, which remain where the entry is zero.
        is_zero: it ends in zero.
        is_alone: it does not depend on where it starts from.
        absorbs: the kind of sum or product that takes the entry and would join one just before.
        ends_in: the kind of operation it ends with; "" if it passes its entry on.
    """

    forms: str
    has_constants: bool
    is_zero: bool = False
    is_alone: bool = False
    absorbs: str = ""
    ends_in: str = ""


class TracedSpace:
    """Gives samples of one traced model their keys.

    The key of a sample is made of the forms of all its parts, in order, so it does not depend on how
    the model is cut: regions only save work. Regions that are alike share what is known of them.

    Args:
        traced: the model, with its choices as single steps.
        parts: its modules.
    """

    def __init__(self, traced: Traced, parts: Parts) -> None:
        self._traced = traced
        self._parts = parts
        self.layer_labels: set[str] = set()
        """The labels of choices among modules that samples were asked for so far."""
        # The signatures come first: making them finds out which steps share weights.
        self._signatures = [self._signature(number, step) for number, step in enumerate(traced.steps)]
        self._is_divisible = True
        self._divide()

    def key(self, sample: Mapping[str, Any]) -> str:
        """A text that is equal for samples of the same architecture."""
        while True:
            ties, is_divisible = set(self._parts.ties), self._is_divisible
            key = self._key(sample)
            if ties == self._parts.ties and is_divisible == self._is_divisible:
                return key
            self._divide()  # anew: candidates made only now share weights, or a cut was no tensor

    def _key(self, sample: Mapping[str, Any]) -> str:
        outcomes: dict[_Region, _Outcome] = {}
        forms = []
        ends_in, is_zero = "", False
        for region in self._regions:
            outcome = outcomes.get(region)
            if outcome is None:
                outcome = outcomes[region] = self._outcome(region, sample)
            if (
                outcome.is_alone
                or (outcome.absorbs and outcome.absorbs == ends_in)
                or (is_zero and outcome.has_constants)
            ):  # what the region is then depends on others
                return digest(self._outcome(self._whole, sample).forms)
            forms.append(outcome.forms)
            ends_in = outcome.ends_in or ends_in
            is_zero = is_zero or outcome.is_zero
        return digest(_ZERO if is_zero else "".join(forms))

    # -- regions ---------------------------------------------------------------------------------

    def _divide(self) -> None:
        """Cuts the model where every step behind depends on those before through one value only."""
        steps = self._traced.steps
        self._whole = _Region(tuple(range(len(steps))))
        self._regions = [self._whole]
        if not self._is_divisible:
            return
        order = self._order()
        place = {number: position for position, number in enumerate(order)}
        last_use: dict[fx.Node, int] = {}
        for position, number in enumerate(order):
            last_use.update(dict.fromkeys(steps[number].node.all_input_nodes, position))
        bound = [sorted((place[a], place[b])) for a, b in self._parts.ties]
        regions: list[_Region] = []
        by_signature: dict[Hashable, _Region] = {}
        start, entry = 0, None
        reach = max((last_use.get(node, 0) for node in self._traced.inputs), default=0)
        for position, number in enumerate(order):
            node = steps[number].node
            is_last = position == len(order) - 1
            is_cut = reach <= position and not any(a <= position < b for a, b in bound)
            if is_cut or is_last:
                region = _Region(tuple(order[start : position + 1]), entry, None if is_last else node)
                signature = self._signature_of_region(region)
                regions.append(region if signature is None else by_signature.setdefault(signature, region))
                start, entry = position + 1, node
            reach = max(reach, last_use.get(node, 0))
        self._regions = regions or [self._whole]

    def _order(self) -> list[int]:
        """The numbers of the steps, each that depends on no input just before its first use."""
        steps = self._traced.steps
        number_of = {step.node: number for number, step in enumerate(steps)}
        depends: set[fx.Node] = set(self._traced.inputs)
        order: dict[int, None] = {}

        def place(number: int) -> None:
            for node in steps[number].node.all_input_nodes:
                if node in number_of and number_of[node] not in order:
                    place(number_of[node])
            order[number] = None

        for number, step in enumerate(steps):
            if depends.intersection(step.node.all_input_nodes):
                depends.add(step.node)
                place(number)
        for number in range(len(steps)):
            if number not in order:
                place(number)
        return list(order)

    def _signature_of_region(self, region: _Region) -> Hashable | None:
        """Equal for regions of which the same samples make the same; None if it is like no other."""
        if region.entry is None or region.exit is None:
            return None
        if any(number in tie for tie in self._parts.ties for number in region.steps):
            return None
        index = {region.entry: 0}
        signature: list[Hashable] = []
        for number in region.steps:
            node, own = self._traced.steps[number].node, self._signatures[number]
            if own is None:
                return None
            refs: list[int] = []
            numbered = replaced(
                (node.args, node.kwargs), lambda a: Ref(index[a]) if isinstance(a, fx.Node) else a
            )
            signature.append((own, spelt(numbered, refs), tuple(refs)))
            index[node] = len(index)
        return tuple(signature)

    def _signature(self, number: int, step: Step) -> Hashable | None:
        """Equal for steps that do the same for the same samples; None if that cannot be told."""
        part = step.part
        if part is None:
            return step.name
        self._parts.shares(part, (number,))
        if isinstance(part, LayerChoice):
            try:
                candidates = [self._parts.candidate(part, name) for name in part.candidates]
            except Exception:  # not made for values of this sample: then it is made if it is chosen
                return None
            for candidate in candidates:
                self._parts.shares(candidate, (number,))
            if any(map(self._parts.holds_choice, candidates)):
                return None
            label, _ = self._parts.labels_of(part, step.path)
            return label, repr(part.domains(label)), tuple(map(self._parts.descriptor, candidates))
        if isinstance(part, InputChoice):
            label, _ = self._parts.labels_of(part, step.path)
            return label, repr(part.domains(label)), part.reduction
        if step.node.op == "get_attr" or isinstance(part, Choice) or self._parts.holds_choice(part):
            return None
        return self._parts.descriptor(part)

    # -- outcomes --------------------------------------------------------------------------------

    def _outcome(self, region: _Region, sample: Mapping[str, Any]) -> _Outcome:
        key = self._values(region, sample)
        outcome = region.outcomes.get(key)
        if outcome is None:
            expander = Expander(self._parts, sample)
            outcome = self._expanded(region, expander)
            self.layer_labels |= expander.of_layers
            new = expander.asked.keys() - set(region.labels)
            if new or len(region.outcomes) >= _KEPT_OUTCOMES:
                region.labels += sorted(new)
                region.outcomes.clear()
            region.outcomes[self._values(region, sample)] = outcome
        return outcome

    def _values(self, region: _Region, sample: Mapping[str, Any]) -> Hashable:
        return tuple([value_key(sample[name]) if name in sample else None for name in region.labels])

    def _expanded(self, region: _Region, expander: Expander) -> _Outcome:
        starts = self._traced.inputs if region.entry is None else (region.entry,)
        env: dict[fx.Node, Any] = {
            node: expander.emit(Node(f"input {i}", kind="input")) for i, node in enumerate(starts)
        }
        for number in region.steps:
            step = self._traced.steps[number]
            env[step.node] = expander.step(step, env, "", (number,))
        value = looked_up(self._traced.output if region.exit is None else region.exit, env)
        if not isinstance(value, Ref):
            if region.exit is not None:  # several tensors: what follows may use them one by one
                self._is_divisible = False
            refs: list[int] = []
            text = spelt(value, refs)
            value = expander.emit(Node(digest(f"output {text}"), tuple(refs)))
        has_constants = any(node.kind == "operation" and not node.inputs for node in expander.nodes)
        simple = simplify(expander.nodes, expander.current(value.index))
        if not simple:
            return _Outcome(_ZERO, is_zero=True, has_constants=has_constants)
        texts = [digest(repr(form)) for form in primes(simple)]
        depends = any(node.kind == "input" for node in simple)
        if region.entry is None:
            is_alone = not depends and region is not self._whole
            return _Outcome("".join(texts), has_constants, is_alone=is_alone, ends_in=simple[-1].kind)
        users = [node for node in simple if 0 in node.inputs]
        is_joined = len(users) == 1 and users[0].inputs.count(0) == 1
        return _Outcome(
            # The first part is the entry itself, with which the region before ends.
            "".join(texts[1:]),
            has_constants,
            is_alone=not depends,
            absorbs=users[0].kind if is_joined and users[0].kind in ("sum", "product") else "",
            ends_in=simple[-1].kind if len(simple) > 1 else "",
        )
