from __future__ import annotations

import csv
import gzip
import itertools
import random
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_nas.mutables.canonical import NOTHING, VANISHED, Node, canonical_form, simplify

TABLE = Path(__file__).resolve().parents[3] / "shared/data/nasbench201.csv.gz"
NB201_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 8) -> list[Node]:
    """Few descriptors and many edges, so that symmetries are common; the last node is the output."""
    nodes = [Node(f"x{i}", kind="input") for i in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(1, max_nodes))):
        kind = draw(st.sampled_from(["operation"] * 4 + ["sum"] * 3 + ["product", "identity", "zero"]))
        most = 1 if kind in ("identity", "zero") else 3
        least = 0 if kind == "operation" else 1
        inputs = draw(st.lists(st.integers(0, len(nodes) - 1), min_size=least, max_size=most))
        shares = ()
        if kind == "operation" and draw(st.booleans()):
            shares = (("weight", draw(st.integers(0, 1))),)
        descriptor = "" if kind in ("sum", "product") else draw(st.sampled_from("ab"))
        nodes.append(Node(descriptor, tuple(inputs), kind, shares))
    return nodes


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[Node], list[Node]]:
    """A graph and another one, or the same with one edge led elsewhere."""
    nodes = draw(graphs())
    candidates = [v for v, node in enumerate(nodes) if node.inputs]
    if not candidates or draw(st.booleans()):
        return nodes, draw(graphs())
    other = list(nodes)
    for _ in range(draw(st.integers(1, 2))):
        v = draw(st.sampled_from(candidates))
        inputs = list(other[v].inputs)
        inputs[draw(st.integers(0, len(inputs) - 1))] = draw(st.integers(0, v - 1))
        other[v] = other[v]._replace(inputs=tuple(inputs))
    return nodes, other


def renumbered(nodes: list[Node], rng: random.Random) -> tuple[list[Node], int]:
    """The same graph in another topological order, its tensors and commutative inputs in another order."""
    order: list[int] = []
    waiting = list(range(len(nodes)))
    while waiting:
        ready = [v for v in waiting if all(i in order for i in nodes[v].inputs)]
        order.append(rng.choice(ready))
        waiting.remove(order[-1])
    number = {v: n for n, v in enumerate(order)}
    result = []
    for v in order:
        inputs = [number[i] for i in nodes[v].inputs]
        if nodes[v].kind in ("sum", "product"):
            rng.shuffle(inputs)
        shares = tuple((role, 7 - tensor) for role, tensor in nodes[v].shares)
        result.append(nodes[v]._replace(inputs=tuple(inputs), shares=shares))
    return result, number[len(nodes) - 1]


def networkx_graph(nodes: list[Node]) -> nx.DiGraph:
    """A simplified graph with all that an isomorphism must respect as attributes."""
    uses = Counter(tensor for node in nodes for _, tensor in node.shares)
    result = nx.DiGraph()
    for v, node in enumerate(nodes):
        is_ordered = node.kind not in ("sum", "product")
        gaps = tuple(p for p, i in enumerate(node.inputs) if i == NOTHING)
        result.add_node(v, look=(node.descriptor, node.kind, gaps, v == len(nodes) - 1))
        for i in set(node.inputs) - {NOTHING}:
            positions = [p for p, j in enumerate(node.inputs) if j == i]
            result.add_edge(i, v, look=tuple(positions) if is_ordered else len(positions))
        for role, tensor in node.shares:
            if uses[tensor] > 1:
                result.add_node(("tensor", tensor), look="tensor")
                result.add_edge(("tensor", tensor), v, look=role)
    return result


def are_isomorphic(one: list[Node], other: list[Node]) -> bool:
    def alike(a: dict, b: dict) -> bool:
        return a["look"] == b["look"]

    return nx.is_isomorphic(networkx_graph(one), networkx_graph(other), node_match=alike, edge_match=alike)


@given(pairs())
def test_forms_are_equal_exactly_if_networkx_finds_the_simplified_graphs_isomorphic(pair) -> None:
    one, other = pair
    simple = [simplify(nodes, len(nodes) - 1) for nodes in pair]
    are_equal = canonical_form(one, len(one) - 1) == canonical_form(other, len(other) - 1)
    assert are_equal == are_isomorphic(*simple)


@given(graphs(max_nodes=14), st.randoms(use_true_random=False))
def test_numbering_does_not_matter(nodes: list[Node], rng: random.Random) -> None:
    assert canonical_form(*renumbered(nodes, rng)) == canonical_form(nodes, len(nodes) - 1)


@given(graphs(max_nodes=14))
def test_simplifying_changes_no_value(nodes: list[Node]) -> None:
    """Each operation is a random function of its descriptor, weights and inputs that keeps zero."""
    prime = (1 << 61) - 1

    def values(nodes: list[Node]) -> list[int]:
        found: list[int] = []
        for node in nodes:
            inputs = [0 if i == NOTHING else found[i] for i in node.inputs]
            if node.kind == "zero" or (inputs and not any(inputs)):
                value = 0
            elif node.kind in ("sum", "identity"):
                value = sum(inputs) % prime
            elif node.kind == "product":
                value = 1
                for i in inputs:
                    value = value * i % prime
            else:
                value = hash((node.descriptor, node.shares, *inputs)) % prime
            found.append(value)
        return found

    simple = simplify(nodes, len(nodes) - 1)
    assert (values(simple)[-1] if simple else 0) == values(nodes)[-1]


@given(graphs(max_nodes=14))
def test_simplifying_twice_is_simplifying_once(nodes: list[Node]) -> None:
    simple = simplify(nodes, len(nodes) - 1)
    assert not simple or simplify(simple_again(simple), len(simple)) == simple


def simple_again(simple: list[Node]) -> list[Node]:
    """A simplified graph as one that could be given: an explicit zero in each empty place, at the front."""
    shifted = [
        node._replace(inputs=tuple(0 if i == NOTHING else i + 1 for i in node.inputs)) for node in simple
    ]
    return [Node("zero", kind="zero"), *shifted]


X = Node("x", kind="input")


def _circles(*lengths: int) -> list[Node]:
    """Products of neighbours on circles of operations: refinement alone cannot tell 6 from 3 + 3."""
    nodes = [X]
    products = []
    for length in lengths:
        start = len(nodes)
        nodes += [Node("a", (0,))] * length
        products += [(start + i, start + (i + 1) % length) for i in range(length)]
    first = len(nodes)
    nodes += [Node("", pair, "product") for pair in products]
    nodes += [Node("b", (first + i,)) for i in range(len(products))]
    return [*nodes, Node("", tuple(range(first + len(products), first + 2 * len(products))), "sum")]


def _form(nodes: list[Node]) -> object:
    return canonical_form(nodes, len(nodes) - 1)


def test_graphs_that_only_backtracking_tells_apart_are_told_apart() -> None:
    assert _form(_circles(6)) != _form(_circles(3, 3))
    assert _form(_circles(4, 3)) == _form(_circles(3, 4)) != _form(_circles(7))


def test_many_equal_branches_cost_little() -> None:
    nodes = [X]
    for _ in range(6):
        entry = len(nodes) - 1
        nodes += [Node("relu", (entry,))] * 4
        nodes += [Node("conv", (entry + 1 + i,)) for i in range(4)]
        nodes.append(Node("", tuple(range(entry + 5, entry + 9)), "sum"))
        # What crosses the layers keeps them from being cut apart.
        nodes.append(Node("both", (len(nodes) - 1, 0)))
    assert _form(nodes) == canonical_form(*renumbered(nodes, random.Random(0)))


def op(descriptor: str, *inputs: int) -> Node:
    return Node(descriptor, inputs)


def total(*inputs: int) -> Node:
    return Node("", inputs, "sum")


def zero(of: int) -> Node:
    return Node("0", (of,), "zero")


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        ([X, op("a", 0), op("b", 0), op("cat", 1, 2)], [X, op("b", 0), op("a", 0), op("cat", 1, 2)], False),
        ([X, op("a", 0), op("b", 0), op("cat", 1, 2)], [X, op("b", 0), op("a", 0), op("cat", 2, 1)], True),
        ([X, op("a", 0), total(1, 1)], [X, op("a", 0), op("a", 0), total(1, 2)], False),
        ([X, op("a", 0), op("a", 1)], [X, op("a", 0)], False),
        ([X, op("a", 0), zero(0), total(1, 2)], [X, op("a", 0)], True),
        ([X, zero(0), op("a", 1), total(0, 2)], [X], True),
        ([X, zero(0), op("cat", 0, 1)], [X, zero(0), op("cat", 1, 0)], False),
        ([X, op("a", 0), zero(0), Node("", (1, 2), "product")], [X, zero(0)], True),
        ([X, op("w"), total(0, 1)], [X, op("w"), total(1, 0)], True),
    ],
)
def test_small_cases(one: list[Node], other: list[Node], are_equal: bool) -> None:
    assert (_form(one) == _form(other)) == are_equal


def test_a_sum_used_twice_is_not_dissolved() -> None:
    inner = [X, Node("a", (0,)), Node("b", (0,)), Node("", (1, 2), "sum"), Node("c", (0,))]
    private = [*inner, Node("", (3, 4), "sum")]
    flat = [*inner[:3], Node("c", (0,)), Node("", (1, 2, 3), "sum")]
    shared = [*inner, Node("f", (3,)), Node("", (3, 4, 5), "sum")]
    apart = [*inner, Node("f", (3,)), Node("", (1, 2, 4, 5), "sum")]
    assert _form(private) == _form(flat)
    assert _form(shared) != _form(apart)


def test_an_output_that_is_always_zero_has_one_form() -> None:
    assert (
        _form([X, Node("0", (0,), "zero"), Node("a", (1,))])
        == _form([X, Node("0", (0,), "zero")])
        == VANISHED
    )


def nasbench201_cell(operations: tuple[str, ...]) -> list[Node]:
    """A cell from its six operations in the order of its string."""
    kinds = {"none": "zero", "skip_connect": "identity"}
    nodes, states, given = [X], [0], iter(operations)
    for _ in range(3):
        first = len(nodes)
        nodes += [
            Node(name, (state,), kinds.get(name, "operation"))
            for state, name in zip(states, itertools.islice(given, len(states)))
        ]
        nodes.append(Node("", tuple(range(first, len(nodes))), "sum"))
        states.append(len(nodes) - 1)
    return nodes


def paper_string(operations: tuple[str, ...]) -> str:
    """The text by which the NAS-Bench-201 paper tells cells apart (Dong and Yang, ICLR 2020, section 2.1)."""
    states, given = ["0"], iter(operations)
    for _ in range(3):
        terms = []
        for state, name in zip(states, itertools.islice(given, len(states))):
            if name == "none" or state == "#":
                terms.append("#")
            else:
                terms.append(state if name == "skip_connect" else f"({state})@{name}")
        states.append("+".join(sorted(terms)))
    return states[-1]


@pytest.mark.slow
def test_nasbench201_has_5425_architectures_and_6466_by_the_rule_of_its_paper() -> None:
    cells = list(itertools.product(NB201_OPERATIONS, repeat=6))
    assert len({_form(nasbench201_cell(cell)) for cell in cells}) == 5_425
    assert len({paper_string(cell) for cell in cells}) == 6_466


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not TABLE.exists(), reason=f"{TABLE} is not there")
def test_cells_of_one_form_reach_the_same_accuracy() -> None:
    accuracies = defaultdict(list)
    with gzip.open(TABLE, "rt") as file:
        for row in csv.DictReader(file):
            operations = tuple(part.split("~")[0] for part in row["arch"].replace("+", "").split("|") if part)
            accuracies[_form(nasbench201_cell(operations))].append(float(row["cifar10_test_200ep"]))
    assert len(accuracies) == 5_425
    good = [found for found in accuracies.values() if statistics.median(found) >= 92]
    assert max(max(found) - min(found) for found in good) <= 0.9
