"""An exact canonical form of graphs of operations, equal exactly for graphs that are the same architecture.

A graph is a list of `Node`s, each after its inputs, and the index of its output. `simplify` removes
what computes nothing; `primes` cuts the rest where all data passes through one value and gives each
part a form that does not depend on how its nodes were numbered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, cast

Kind = Literal["input", "operation", "sum", "product", "identity", "zero"]

NOTHING = -1
"""Stands, after `simplify`, for an input of an operation that has vanished."""


class Node(NamedTuple):
    """One operation.

    Args:
        descriptor: what it computes; equal descriptors mean equal operations.
        inputs: indices of earlier nodes, in the order of the operation's arguments.
        kind: "sum" and "product" take their inputs in any order; "identity" (one input) and "zero"
            compute nothing; "input" is a source that the data enters by.
        shares: `(role, tensor)` for each weight that other nodes may use too: nodes that name the
            same tensor share it. Roles of one node are distinct.
    """

    descriptor: str
    inputs: tuple[int, ...] = ()
    kind: Kind = "operation"
    shares: tuple[tuple[str, int], ...] = ()


Prime = tuple[tuple[str, str, tuple[int, ...]], ...]
"""A part in canonical numbering: descriptor, kind and inputs of each node."""

VANISHED: tuple[Prime, ...] = ((("", "zero", ()),),)
"""The form of a graph whose output is always zero."""


def canonical_form(nodes: Sequence[Node], output: int) -> tuple[Prime, ...]:
    """A hashable that is equal for two graphs exactly if they are isomorphic once simplified.

    An isomorphism respects descriptors, kinds, the order of arguments (not of sums and products) and
    which nodes share weights.

    Args:
        nodes: each after its inputs.
        output: the index of the node whose value is the graph's.

    >>> x, a, b = Node("x", kind="input"), Node("a", (0,)), Node("b", (0,))
    >>> one = canonical_form([x, a, b, Node("+", (1, 2), "sum")], 3)
    >>> one == canonical_form([x, b, a, Node("+", (1, 2), "sum"), Node("", (3,), "identity")], 4)
    True
    >>> one == canonical_form([x, a, a, Node("+", (1, 2), "sum")], 3)
    False
    """
    simple = simplify(nodes, output)
    return primes(simple) if simple else VANISHED


def simplify(nodes: Sequence[Node], output: int) -> list[Node]:
    """The graph without what computes nothing; the output is its last node.

    Zeros leave sums, make products zero, and take with them each operation all of whose inputs are
    zero; where an operation has other inputs too, `NOTHING` keeps the place. Identities, sums and
    products of one input are replaced by that input. A sum that only one other sum uses is part of
    it, so that neither the grouping nor the order of additions counts; so with products. Nodes that the
    output does not depend on are dropped.

    Returns:
        The nodes, renumbered, each after its inputs; empty if the output is zero.
    """
    kept: list[Node] = []
    where: list[int] = []  # of each given node in `kept`, or NOTHING
    for node in nodes:
        inputs = [where[i] for i in node.inputs]
        is_zero = node.kind == "zero" or (bool(inputs) and all(i == NOTHING for i in inputs))
        if node.kind == "sum":
            inputs = [i for i in inputs if i != NOTHING]
        elif node.kind == "product":
            is_zero = is_zero or NOTHING in inputs
        if is_zero:
            where.append(NOTHING)
        elif node.kind == "identity" or (node.kind in ("sum", "product") and len(inputs) == 1):
            where.append(inputs[0])
        else:
            where.append(len(kept))
            kept.append(Node(node.descriptor, tuple(inputs), node.kind, node.shares))
    return [] if where[output] == NOTHING else _pruned(_merged(kept, where[output]), where[output])


def _merged(nodes: list[Node], output: int) -> list[Node]:
    """Sums take in the sums that only they use; products likewise."""
    live = _ancestors(nodes, output)
    uses = Counter([i for v in live for i in nodes[v].inputs])
    merged = list(nodes)
    for v in live:
        node = nodes[v]
        if node.kind in ("sum", "product"):
            inputs: list[int] = []
            for i in node.inputs:
                is_part = i != NOTHING and nodes[i].kind == node.kind and uses[i] == 1
                inputs += merged[i].inputs if is_part else (i,)
            merged[v] = node._replace(inputs=tuple(inputs))
    return merged


def _ancestors(nodes: Sequence[Node], output: int) -> list[int]:
    """`output` and all it depends on, in ascending order."""
    is_live = [False] * (output + 1)
    is_live[output] = True
    for v in range(output, -1, -1):
        if is_live[v]:
            for i in nodes[v].inputs:
                if i != NOTHING:
                    is_live[i] = True
    return [v for v in range(output + 1) if is_live[v]]


def _pruned(nodes: Sequence[Node], output: int) -> list[Node]:
    return _renumbered(nodes, _ancestors(nodes, output))


def _renumbered(nodes: Sequence[Node], order: list[int]) -> list[Node]:
    """The nodes of these numbers, in this order."""
    number = {NOTHING: NOTHING, **{v: n for n, v in enumerate(order)}}
    return [Node(d, tuple([number[i] for i in ins]), k, s) for d, ins, k, s in map(nodes.__getitem__, order)]


def primes(nodes: Sequence[Node]) -> tuple[Prime, ...]:
    """The canonical forms of the parts of a simplified graph, from its inputs to its output.

    Parts end at the values through which all data passes: every node that depends on an input lies
    before or behind such a value, and no constant or shared weight is used on both sides. That is a
    property of the graph and not of its numbering, so graphs are isomorphic exactly if all their
    parts are, one by one.

    Args:
        nodes: as `simplify` returns them, not empty.
    """
    nodes = _ordered(_with_owners(nodes))
    last_use = [0] * len(nodes)
    for v, node in enumerate(nodes):
        for i in node.inputs:
            if i != NOTHING:
                last_use[i] = v
    result = []
    start, reach = 0, 0
    last_input = max((v for v, node in enumerate(nodes) if node.kind == "input"), default=len(nodes))
    for v in range(len(nodes)):
        if (reach <= v and v >= last_input) or v == len(nodes) - 1:
            result.append(_form(nodes, start, v + 1))
            start = v + 1
        reach = max(reach, last_use[v])
    return tuple(result)


def _with_owners(nodes: Sequence[Node]) -> list[Node]:
    """Weights that several nodes share become nodes of their own, inputs of those that use them."""
    uses = Counter([tensor for node in nodes for _, tensor in node.shares])
    if not any(count > 1 for count in uses.values()):
        return list(nodes)
    owners: dict[int, int] = {}
    number = {NOTHING: NOTHING}
    result: list[Node] = []
    for v, node in enumerate(nodes):
        shared = sorted((role, tensor) for role, tensor in node.shares if uses[tensor] > 1)
        for _, tensor in shared:
            if tensor not in owners:
                owners[tensor] = len(result)
                result.append(Node("shared weight"))
        number[v] = len(result)
        roles = ", ".join(role for role, _ in shared)
        result.append(
            Node(
                f"{node.descriptor} sharing {roles}" if shared else node.descriptor,
                (*(number[i] for i in node.inputs), *(owners[tensor] for _, tensor in shared)),
                node.kind,
            )
        )
    return result


def _ordered(nodes: list[Node]) -> list[Node]:
    """The same graph with inputs first, and what depends on no input just before its first use."""
    depends: list[bool] = []
    for node in nodes:
        depends.append(node.kind == "input" or any(i != NOTHING and depends[i] for i in node.inputs))
    inputs = [v for v, node in enumerate(nodes) if node.kind == "input"]
    if all(depends) and inputs == list(range(len(inputs))):
        return nodes
    order: list[int] = []
    placed = [False] * len(nodes)

    def place(v: int) -> None:
        stack = [v]
        while stack:
            top = stack[-1]
            missing = [i for i in nodes[top].inputs if i != NOTHING and not placed[i]]
            if missing:
                stack += missing[::-1]
            else:
                stack.pop()
                if not placed[top]:
                    placed[top] = True
                    order.append(top)

    for v in (*inputs, *range(len(nodes))):
        if depends[v] or v == len(nodes) - 1:
            place(v)
    return _renumbered(nodes, order)


def _form(nodes: Sequence[Node], start: int, stop: int) -> Prime:
    """The canonical form of the nodes from `start` to before `stop`; the node before is their entry."""
    part = nodes[start:stop]
    if len(part) == 1:
        node = part[0]
        return ((node.descriptor, node.kind, tuple([NOTHING if i == NOTHING else 0 for i in node.inputs])),)
    # The entry, or what stands for it, is number 0; `NOTHING` finds the last of the colours.
    shift = start - 1
    local = [Node("", (), "input")]
    local += [
        n._replace(inputs=tuple([i - shift if i != NOTHING else NOTHING for i in n.inputs])) for n in part
    ]
    return _Canonical(local).form()


Colours = list[int]
Leaf = tuple[tuple[int, ...], Prime]


class _Canonical:
    """Finds the smallest numbering of a graph by colour refinement, then individualisation.

    Colours are hashes: two nodes of different colour differ, and a collision only makes a colour
    class larger than it need be. Ties are broken by giving one node of a class a colour of its own,
    each in turn; branches that an automorphism maps to one already seen are left out.

    Source: McKay and Piperno, "Practical graph isomorphism, II", J. Symb. Comput. 2014, sections 2
    and 3, with orbits from equal leaves only.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.is_ordered = [node.kind not in ("sum", "product") for node in nodes]
        self.uses: list[list[tuple[int, int]]] = [[] for _ in range(len(nodes) + 1)]
        for v, node in enumerate(nodes):
            for position, i in enumerate(node.inputs):
                self.uses[i].append((v, position if self.is_ordered[v] else -1))

    def form(self) -> Prime:
        looks = [(node.kind, node.descriptor, len(node.inputs)) for node in self.nodes]
        rank = {look: r for r, look in enumerate(sorted(set(looks)))}
        return min(self._leaves([*(rank[look] for look in looks), -1]))[1]

    def _refined(self, colours: Colours) -> tuple[Colours, list[int]]:
        """Colours that also tell apart nodes with differently coloured inputs or users.

        Returns:
            The colours, and the nodes of the smallest class that still has several; empty if none has.
        """
        nodes, n = self.nodes, len(self.nodes)
        colours = list(colours)
        count = len(set(colours))
        while count <= n:
            for v, node in enumerate(nodes):
                below = [colours[i] for i in node.inputs]
                if not self.is_ordered[v]:
                    below.sort()
                colours[v] = hash((colours[v], *below))
            for v in range(n - 1, -1, -1):
                above = [(colours[u], position) for u, position in self.uses[v]]
                above.sort()
                colours[v] = hash((colours[v], *above))
            refined = len(set(colours))
            if refined == count:
                break
            count = refined
        return colours, [] if count > n else self._tied(colours)

    def _tied(self, colours: Colours) -> list[int]:
        """The smallest class of several nodes. Twins are told apart (in place): any order will do."""
        classes: dict[int, list[int]] = {}
        for v in range(len(self.nodes)):
            classes.setdefault(colours[v], []).append(v)
        ties = []
        for colour, members in classes.items():
            if len(members) > 1 and self._are_twins(members):
                for number, v in enumerate(members):
                    colours[v] = hash((colour, -1, number))
            elif len(members) > 1:
                ties.append((len(members), colour))
        return classes[min(ties)[1]] if ties else []

    def _are_twins(self, tied: list[int]) -> bool:
        """Whether any two of the nodes can change places with all others staying: same inputs, same users."""

        def surroundings(v: int) -> tuple[list[int], list[tuple[int, int]]]:
            inputs = list(self.nodes[v].inputs)
            return inputs if self.is_ordered[v] else sorted(inputs), sorted(self.uses[v])

        first = surroundings(tied[0])
        return all(surroundings(v) == first for v in tied[1:])

    def _leaves(self, colours: Colours) -> dict[Leaf, list[int]]:
        """The distinct leaves of the search below `colours`, each with the order of nodes that gives it."""
        colours, tied = self._refined(colours)
        if not tied:
            return self._leaf(colours)
        found: dict[Leaf, list[int]] = {}
        orbits = _Orbits(tied)
        explored: list[int] = []
        for v in tied:
            if orbits.root(v) in map(orbits.root, explored):
                continue
            branch = _singled_out(colours, v)
            ((leaf, order),) = self._first_leaf(branch).items()
            if leaf in found:
                orbits.join(zip(found[leaf], order))
            else:
                found.update(self._leaves(branch))
                explored.append(v)
        return found

    def _first_leaf(self, colours: Colours) -> dict[Leaf, list[int]]:
        colours, tied = self._refined(colours)
        return self._first_leaf(_singled_out(colours, tied[0])) if tied else self._leaf(colours)

    def _leaf(self, colours: Colours) -> dict[Leaf, list[int]]:
        order = sorted(range(len(self.nodes)), key=colours.__getitem__)
        number = [0] * len(order) + [NOTHING]
        for position, v in enumerate(order):
            number[v] = position
        form = []
        for v in order:
            inputs = [number[i] for i in self.nodes[v].inputs]
            if not self.is_ordered[v]:
                inputs.sort()
            form.append((self.nodes[v].descriptor, cast(str, self.nodes[v].kind), tuple(inputs)))
        return {(tuple(colours[v] for v in order), tuple(form)): order}


def _singled_out(colours: Colours, v: int) -> Colours:
    result = list(colours)
    result[v] = hash((result[v], -1, -1, -1))
    return result


class _Orbits:
    """Classes of nodes that automorphisms map to one another."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._parent = {v: v for v in nodes}

    def root(self, v: int) -> int:
        while self._parent[v] != v:
            v = self._parent[v]
        return v

    def join(self, pairs: Iterable[tuple[int, int]]) -> None:
        for a, b in pairs:
            if a in self._parent and b in self._parent:
                self._parent[self.root(a)] = self.root(b)
