"""`search.py --graphed`: the callback's search in a loop of its own, graphs on a GPU, the same numbers on a CPU."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_nas import errors
from lightning_nas.hub import DARTS_OPERATIONS, DartsSpace, Genotype
from lightning_nas.oneshot import Supernet, frozen, relax

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory.*"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*"),
]

CPU = torch.device("cpu")


def supernet_of(
    device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Supernet, dict[str, Tensor]]:
    torch.manual_seed(0)
    space = DartsSpace(4, 3, nodes=2, operations=("none", *DARTS_OPERATIONS), search=True)
    supernet = relax(space.to(device, dtype))
    alphas = {k: 1e-3 * torch.randn(shape) for k, shape in supernet.shapes.items()}
    return supernet, {k: alpha.to(device, dtype).requires_grad_() for k, alpha in alphas.items()}


def optimizers(supernet: Supernet, alphas: dict[str, Tensor]) -> tuple[Any, Any]:
    return (
        torch.optim.SGD(supernet.root.parameters(), 0.025, momentum=0.9, weight_decay=3e-4),
        torch.optim.Adam(list(alphas.values()), 3e-4, (0.5, 0.999), weight_decay=1e-3),
    )


def batches(n: int, device: torch.device, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = [
        (torch.randn(4, 3, 16, 16, generator=generator), torch.randint(10, (4,), generator=generator))
        for _ in range(n)
    ]
    return [(x.to(device, dtype), y.to(device)) for x, y in made]


def by_search(
    cifar: SimpleNamespace, steps: int, device: torch.device = CPU, **options: Any
) -> tuple[Supernet, dict[str, Tensor], list[Tensor], Any]:
    supernet, alphas = supernet_of(device)
    given = batches(2 * steps, device)
    search = cifar.graphed.Search(
        supernet, list(alphas.values()), lambda: supernet.activate(alphas),
        *optimizers(supernet, alphas), given[0], **options,
    )  # fmt: skip
    losses = [search.step(train, other).clone() for train, other in zip(given[::2], given[1::2])]
    return supernet, alphas, losses, search


def by_hand(steps: int) -> tuple[Supernet, dict[str, Tensor], list[Tensor]]:
    supernet, alphas = supernet_of(CPU)
    net, leaves = supernet.root, list(alphas.values())
    sgd, adam = optimizers(supernet, alphas)
    given, losses = batches(2 * steps, CPU), []
    for (x, y), (other_x, other_y) in zip(given[::2], given[1::2]):
        supernet.receive(supernet.activate(alphas))
        with frozen(net.parameters()):
            gradients = torch.autograd.grad(cross_entropy(net(other_x), other_y), leaves)
        for alpha, gradient in zip(leaves, gradients):
            alpha.grad = gradient
        adam.step()
        with torch.no_grad():
            supernet.receive(supernet.activate(alphas))
        sgd.zero_grad()
        loss = cross_entropy(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        sgd.step()
        losses.append(loss.detach())
    return supernet, alphas, losses


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_on_a_cpu_its_steps_are_those_of_a_loop_written_by_hand(cifar: SimpleNamespace) -> None:
    supernet, alphas, losses, search = by_search(cifar, 3)
    plain, plain_alphas, plain_losses = by_hand(3)
    assert_same(alphas, plain_alphas)
    assert_same(supernet.root.state_dict(), plain.root.state_dict())
    assert losses == plain_losses
    assert float(search.sums[0]) == pytest.approx(float(sum(losses)))


def test_without_a_search_batch_the_alphas_stay(cifar: SimpleNamespace) -> None:
    supernet, alphas, _, search = by_search(cifar, 1)
    before = {label: alpha.detach().clone() for label, alpha in alphas.items()}
    weights = supernet.root.state_dict()["stem.0.weight"].clone()
    search.step(batches(1, CPU)[0], None)
    assert_same(before, alphas)
    assert not torch.equal(weights, supernet.root.state_dict()["stem.0.weight"])


class Graphs:
    """In the place of `torch.cuda`'s: a replay does what was captured, with the tensors that were used then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pools: list[Any] = []
        self.captured: Any = None
        stream = SimpleNamespace(wait_stream=lambda other: None)
        monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", self._graph)
        monkeypatch.setattr(torch.cuda, "graph", self._capture)

    def _graph(self) -> SimpleNamespace:
        graph = SimpleNamespace(replay=lambda: graph.work())
        graph.pool = lambda: graph
        return graph

    @contextlib.contextmanager
    def _capture(self, graph: SimpleNamespace, pool: Any, stream: Any) -> Iterator[None]:
        self.pools.append(pool)
        yield
        graph.work = self.captured


def test_a_captured_step_reads_its_own_batch_and_warming_up_leaves_no_trace(
    cifar: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = Graphs(monkeypatch)
    weight, seen = torch.ones(3, requires_grad=True), torch.zeros(3)

    def loss_of(x: Tensor) -> Tensor:
        with torch.no_grad():
            seen.add_(x)
        graphs.captured = lambda: step._compute(step._batch)
        return (weight * x).sum()

    step = cifar.graphed.GraphedStep(loss_of, [weight], [torch.full((3,), 7.0)])
    gradient = weight.grad
    step._capture([seen], None)
    other = cifar.graphed.GraphedStep(loss_of, [weight], [torch.full((3,), 7.0)])
    other._capture([seen], step)
    assert seen.tolist() == [0, 0, 0]
    assert graphs.pools == [None, step._graph]

    weight.grad = gradient
    for value in (2.0, 5.0):
        assert float(step(torch.full((3,), value))) == 3 * value
        assert weight.grad is gradient
        assert gradient.tolist() == [value] * 3
    assert seen.tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match="argument 2 is longer"):
        step(torch.ones(3), torch.ones(3))


QUIET = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]


def search(cifar: SimpleNamespace, run: Path, *more: str) -> Genotype:
    config = f"--config={cifar.configs / 'smoke.yaml'}"
    return cifar.search.main([config, f"--run={run}", *QUIET, *more])


def curves(run: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "search/entropy")}
        for row in json.loads((run / "curves.json").read_text())
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--trainer.precision=bf16-mixed", "--channels_last=true"],
        ["--method=PCDarts", "--method.warmup_epochs=1", "--model.partial_channels=2"],
    ],
    ids=["float32", "bfloat16", "PC-DARTS"],
)
def test_on_a_cpu_it_finds_what_the_callback_finds_bit_by_bit(
    cifar: SimpleNamespace, tmp_path: Path, more: list[str]
) -> None:
    genotype = search(cifar, tmp_path / "callback", *more)
    assert search(cifar, tmp_path / "graphed", "--graphed", *more) == genotype
    for name in ("search.jsonl", "sample.json", "genotype.json"):
        assert (tmp_path / "graphed" / name).read_text() == (tmp_path / "callback" / name).read_text()
    assert curves(tmp_path / "graphed") == curves(tmp_path / "callback")
    files = [{path.name for path in (tmp_path / run).iterdir()} for run in ("callback", "graphed")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_an_interrupted_search_equals_one_that_was_not(
    cifar: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The search half is a batch shorter than the other, so that its epochs do not begin together.
    options = ["--graphed=true", "--data.held_out=0.45", "--method.warmup_epochs=1", "--trainer.max_epochs=3"]
    whole = search(cifar, tmp_path / "whole", *options)

    class Interrupted(Exception):
        pass

    written = []

    def write(path: Path, value: Any) -> None:
        cifar.lit.write_json(path, value)
        written.append(path)
        if len(written) == 3:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(cifar.graphed, "write_json", write)
        with pytest.raises(Interrupted):
            search(cifar, tmp_path / "broken", *options)
    assert search(cifar, tmp_path / "broken", *options) == whole
    for name in ("search.jsonl", "sample.json"):
        assert (tmp_path / "broken" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--method.order=2", r"Darts of order 1 or PCDarts, but got Darts\("),
        ("--method=GDAS", r"Darts of order 1 or PCDarts, but got GDAS\("),
        ("--trainer.accumulate_grad_batches=2", "cannot obey --trainer.accumulate_grad_batches"),
        ("--trainer.precision=16-mixed", "32-true and bf16-mixed, but got '16-mixed'"),
        ("--trainer.devices=2", "one device, but got --trainer.devices 2"),
        ("--trainer.max_epochs=-1", "1 or more, but got -1"),
        ("--checkpoint_steps=5", "at the end of each epoch"),
        ("--ckpt=somewhere.ckpt", "not from somewhere.ckpt"),
    ],
)
def test_what_the_loop_does_not_do_is_refused(
    cifar: SimpleNamespace, tmp_path: Path, options: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        search(cifar, tmp_path / "run", "--graphed=true", options)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_the_search(cifar: SimpleNamespace, tmp_path: Path) -> None:
    options = ["--graphed=true", "--training.lr=1e30", "--trainer.gradient_clip_val=1e30"]
    with pytest.raises(errors.SearchError, match="not finite in epoch 0"):
        search(cifar, tmp_path, *options)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_cells_are_one_graph_each_and_equal_the_others(cifar: SimpleNamespace) -> None:
    supernet, alphas = supernet_of(CPU)
    x, y = batches(1, CPU)[0]

    def gradients() -> list[Tensor]:
        with torch.no_grad():
            supernet.receive(supernet.activate(alphas))
        by_weights = torch.autograd.grad(cross_entropy(supernet.root(x), y), list(supernet.root.parameters()))
        supernet.receive(supernet.activate(alphas))
        with frozen(supernet.root.parameters()):
            loss = cross_entropy(supernet.root(x), y)
        return [*by_weights, *torch.autograd.grad(loss, list(alphas.values()))]

    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    supernet.root.cells[1].compile(backend="aot_eager")
    compiled = gradients()
    supernet.root.eval().train()  # as around a validation: what was compiled stays in use
    gradients()
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 2
    supernet.root.cells[1]._compiled_call_impl = None
    for ours, theirs in zip(compiled, gradients()):
        torch.testing.assert_close(ours, theirs)
    torch.compiler.reset()


GPU = torch.device("cuda")


def on_a_gpu(
    cifar: SimpleNamespace, captures: bool, dtype: torch.dtype, compiles: bool = False, steps: int = 3
) -> tuple[list[Tensor], Any]:
    """After some steps, with a validation in between: alphas and weights, and the last step's gradients of both."""
    supernet, alphas = supernet_of(GPU, dtype)
    leaves = list(alphas.values())
    if compiles:
        supernet.root.cells[1].compile()
    given = batches(2 * steps, GPU, dtype)
    search = cifar.graphed.Search(
        supernet, leaves, lambda: supernet.activate(alphas), *optimizers(supernet, alphas), given[0],
        captures=captures,
    )  # fmt: skip
    for train, other in zip(given[::2], given[1::2]):
        search.step(train, other)
        with torch.no_grad():
            supernet.receive(supernet.activate(alphas))
            supernet.root.eval()(train[0])
        supernet.root.train()
    found = [*leaves, *search.weights, *supernet.root.buffers()]
    return [each.detach() for each in found] + [each.grad for each in (*leaves, *search.weights)], search


@pytest.mark.gpu
def test_on_a_gpu_graphs_take_the_steps_of_plain_calls(cifar: SimpleNamespace) -> None:
    graphed, search = on_a_gpu(cifar, captures=True, dtype=torch.float64)
    plain, _ = on_a_gpu(cifar, captures=False, dtype=torch.float64)
    assert search._on_alphas._graph is not None
    assert search._on_weights._graph is not None
    for ours, theirs in zip(graphed, plain, strict=True):
        # In float64 what is left is the order in which a GPU adds up.
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler
def test_on_a_gpu_compiled_cells_can_be_captured(cifar: SimpleNamespace) -> None:
    torch.compiler.reset()
    compiled, _ = on_a_gpu(cifar, captures=True, dtype=torch.float64, compiles=True, steps=1)
    plain, _ = on_a_gpu(cifar, captures=False, dtype=torch.float64, steps=1)
    for ours, theirs in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


@pytest.fixture
def no_waiting() -> Iterator[Any]:
    """Lets everything fail that waits for the GPU, from a call of it until the test ends."""
    yield lambda mode="error": torch.cuda.set_sync_debug_mode(mode)
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("captures", [True, False])
def test_no_step_waits_for_the_gpu(cifar: SimpleNamespace, no_waiting: Any, captures: bool) -> None:
    supernet, alphas = supernet_of(GPU)
    given = batches(4, GPU)
    search = cifar.graphed.Search(
        supernet, list(alphas.values()), lambda: supernet.activate(alphas),
        *optimizers(supernet, alphas), given[0], captures=captures,
    )  # fmt: skip
    search.step(given[0], given[1])
    no_waiting()
    search.step(given[2], given[3])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_no_step_of_the_callback_waits_for_the_gpu(
    cifar: SimpleNamespace, tmp_path: Path, no_waiting: Any, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    watched = []

    def start(self: Any, batch: Any, batch_idx: int) -> None:
        no_waiting("error" if 2 <= batch_idx < 6 else "default")
        watched.append(batch_idx)

    # From the second batch on: the module's hook comes after the callback's, so the whole of three steps is watched.
    monkeypatch.setattr(cifar.lit.Classifier, "on_train_batch_start", start)
    options = ["--data.train_examples=256", "--trainer.max_epochs=1", "--trainer.accelerator=gpu"]
    search(cifar, tmp_path, *options, "--trainer.devices=1", f"--trainer.precision={precision}")
    assert watched == list(range(8))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_on_a_gpu_the_script_searches_with_graphs(
    cifar: SimpleNamespace, tmp_path: Path, precision: str
) -> None:
    options = ["--graphed=true", "--trainer.accelerator=gpu", f"--trainer.precision={precision}"]
    search(cifar, tmp_path, *options)
    assert [row["epoch"] for row in curves(tmp_path)] == [0, 1]
