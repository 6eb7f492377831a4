"""The fast supernet computes what the plain one does."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lightning_nas.nn as nas_nn
from lightning_nas.hub.darts import DARTS_OPERATIONS, DartsSpace, EdgeOperation
from lightning_nas.oneshot import Supernet, frozen, relax
from lightning_nas.oneshot.fast_ops import Shared, depthwise, join_rows, spread
from lightning_nas.oneshot.mixed import MixedCell

SEARCHED = ("none", *DARTS_OPERATIONS)


def supernet(fast: bool, operations=SEARCHED, layers: int = 3, dtype=torch.float64) -> Supernet:
    """The same weights each time; with three layers one cell is normal and two are reductions."""
    torch.manual_seed(0)
    made = relax(DartsSpace(4, layers, operations=operations, search=True), fast)
    made.root.to(dtype)
    return made


def pair(**options) -> tuple[Supernet, Supernet]:
    plain, fast = supernet(False, **options), supernet(True, **options)
    fast.root.load_state_dict(plain.root.state_dict())
    return plain, fast


def cells(net: Supernet) -> list[MixedCell]:
    return [module for module in net.relaxed if isinstance(module, MixedCell)]


def is_fast(net: Supernet) -> bool:
    """Whether the last forward pass was fast in every cell."""
    return all(cell.fast and cell._fast_cell is not None for cell in cells(net))


def alphas_of(net: Supernet, dtype=torch.float64) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        label: torch.randn(shape, dtype=dtype).requires_grad_() for label, shape in sorted(net.shapes.items())
    }


def batch(size: int = 8, seed: int = 2, count: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
    return images, torch.randint(10, (count,), generator=generator)


def loss_and_gradients(
    net: Supernet, alphas: dict[str, Tensor], given: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """The output, and the gradients of alphas and weights by name."""
    net.receive(net.activate(alphas))
    output = net.root(given[0])
    by = {**{f"alpha {k}": v for k, v in alphas.items()}, **dict(net.root.named_parameters())}
    found = torch.autograd.grad(F.cross_entropy(output, given[1]), list(by.values()), allow_unused=True)
    zero = torch.zeros(())
    return {"output": output.detach(), **{k: zero if g is None else g for k, g in zip(by, found)}}


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    assert list(a) == list(b)
    for name in a:
        assert a[name].shape == b[name].shape
        assert (a[name] - b[name]).abs().max() <= tolerance, name


@pytest.mark.parametrize("size", [8, 12])  # 12 leaves a normal cell of odd size
def test_outputs_and_all_gradients_equal_the_plain_supernets(size: int) -> None:
    plain, fast = pair(layers=4 if size == 12 else 3)
    alphas = alphas_of(plain)
    given = batch(size)
    assert_close(loss_and_gradients(plain, alphas, given), loss_and_gradients(fast, alphas, given))
    assert is_fast(fast)
    assert not is_fast(plain)


def test_running_statistics_end_equal() -> None:
    plain, fast = pair()
    alphas = alphas_of(plain)
    for seed in range(3):
        for net in (plain, fast):
            loss_and_gradients(net, alphas, batch(seed=seed))
    assert_close(dict(plain.root.named_buffers()), dict(fast.root.named_buffers()))
    assert int(fast.root.state_dict()["cells.0.operations.2_0.max_pool_3x3.1.num_batches_tracked"]) == 3


def trajectory(net: Supernet, steps: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The losses, and where alphas, weights and statistics end after steps of the first-order search."""
    alphas = alphas_of(net)
    arch = torch.optim.Adam(list(alphas.values()), lr=3e-3, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(net.root.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
    losses = []
    for step in range(steps):
        net.receive(net.activate(alphas))
        # Larger batches, since batch-norm over few values makes each step multiply a difference.
        images, labels = batch(seed=2 * step, count=12)
        with frozen(net.root.parameters()):
            loss = F.cross_entropy(net.root(images), labels)
            for alpha, g in zip(alphas.values(), torch.autograd.grad(loss, list(alphas.values()))):
                alpha.grad = g
        arch.step()
        with torch.no_grad():
            net.receive(net.activate(alphas))
        sgd.zero_grad()
        images, labels = batch(seed=2 * step + 1, count=12)
        loss = F.cross_entropy(net.root(images), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(net.root.parameters(), 5.0)
        sgd.step()
        losses.append(loss.detach())
    return losses, {**alphas, **net.root.state_dict()}


@pytest.mark.slow
def test_twenty_steps_of_a_search_equal_the_plain_supernets() -> None:
    plain, fast = pair()
    losses, end = trajectory(plain, 20)
    fast_losses, fast_end = trajectory(fast, 20)
    assert_close(
        {str(i): loss for i, loss in enumerate(losses)}, {str(i): loss for i, loss in enumerate(fast_losses)}
    )
    assert_close(end, fast_end)
    assert is_fast(fast)


def test_evaluation_uses_each_edges_own_running_statistics() -> None:
    plain, fast = pair()
    with torch.no_grad():
        for name, buffer in plain.root.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand_like(buffer))
    fast.root.load_state_dict(plain.root.state_dict())
    before = copy.deepcopy(fast.root.state_dict())
    alphas = alphas_of(plain)
    for net in (plain, fast):
        net.root.eval()
    assert_close(loss_and_gradients(plain, alphas, batch()), loss_and_gradients(fast, alphas, batch()))
    assert is_fast(fast)
    assert_close(before, fast.root.state_dict(), 0)


def test_gradients_flow_after_a_forward_pass_in_inference_mode() -> None:
    fast = supernet(True)
    alphas = alphas_of(fast)
    fast.root.eval()
    fast.receive(fast.activate(alphas))
    with torch.inference_mode():
        fast.root(batch()[0])
    assert loss_and_gradients(fast, alphas, batch())["alpha normal"].norm() > 0


def test_a_change_of_mode_leaves_the_tensors_that_a_cuda_graph_reads() -> None:
    net = supernet(fast=True)
    alphas = alphas_of(net)
    loss_and_gradients(net, alphas, batch())
    before = [(cell._fast_cell, cell._fast_cell._order.data_ptr()) for cell in cells(net)]
    for is_training in (False, True):
        net.root.train(is_training)
        loss_and_gradients(net, alphas, batch())
    assert [(cell._fast_cell, cell._fast_cell._order.data_ptr()) for cell in cells(net)] == before


def test_a_copy_computes_with_its_own_weights() -> None:
    fast = supernet(True)
    fast.receive({label: alpha.detach() for label, alpha in fast.activate(alphas_of(fast)).items()})
    expected = fast.root(batch()[0])
    copied = copy.deepcopy(fast.root)
    with torch.no_grad():
        for parameter in fast.root.parameters():
            parameter.zero_()
    assert torch.equal(copied(batch()[0]), expected)


def test_half_precision_stays_close() -> None:
    plain, fast = pair(dtype=torch.float32)
    alphas = alphas_of(plain, torch.float32)
    images, labels = batch(size=16)
    found = []
    for net in (plain, fast):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(loss_and_gradients(net, alphas, (images.float(), labels))["alpha normal"])
    assert is_fast(fast)
    assert F.cosine_similarity(found[0].flatten(), found[1].flatten(), dim=0) > 0.9


def test_state_dicts_of_both_are_interchangeable() -> None:
    plain, fast = pair()
    alphas = alphas_of(plain)
    loss_and_gradients(fast, alphas, batch())
    assert [(name, p.shape) for name, p in plain.root.named_parameters()] == [
        (name, p.shape) for name, p in fast.root.named_parameters()
    ]
    plain.root.load_state_dict(fast.root.state_dict())
    assert_close(loss_and_gradients(plain, alphas, batch()), loss_and_gradients(fast, alphas, batch()))


def test_weights_standing_still_get_no_gradient_and_alphas_the_same() -> None:
    plain, fast = pair()
    alphas = alphas_of(plain)
    found = []
    for net in (plain, fast):
        net.receive(net.activate(alphas))
        images, labels = batch()
        with frozen(net.root.parameters()):
            F.cross_entropy(net.root(images), labels).backward()
        assert all(parameter.grad is None for parameter in net.root.parameters())
        found.append({label: alpha.grad for label, alpha in alphas.items()})
        for alpha in alphas.values():
            alpha.grad = None
    assert_close(*found)


def test_a_sample_is_followed_with_the_weights_of_the_fast_supernet() -> None:
    plain, fast = pair()
    alphas = alphas_of(plain)
    sgd = torch.optim.SGD(fast.root.parameters(), lr=0.1)
    fast.receive(fast.activate(alphas))
    F.cross_entropy(fast.root(batch()[0]), batch()[1]).backward()
    sgd.step()
    plain.root.load_state_dict(fast.root.state_dict())
    sample = fast.derive(fast.activate(alphas))
    outputs = []
    for net in (plain, fast):
        net.receive(net.activate(alphas))
        net.follow(sample)
        outputs.append(net.root(batch()[0]))
        net.follow(None)
    assert torch.equal(*outputs)


def test_weights_of_another_precision_are_converted() -> None:
    fast = supernet(True)
    fast.receive(fast.activate(alphas_of(fast, torch.float32)))
    assert fast.root(batch()[0]).dtype == torch.float64


@pytest.mark.parametrize("operations", [("none", "skip_connect", "sep_conv_3x3"), DARTS_OPERATIONS[:4]])
def test_other_candidates_of_the_hub_are_fast_too(operations: tuple[str, ...]) -> None:
    plain, fast = pair(operations=operations)
    alphas = alphas_of(plain)
    assert_close(loss_and_gradients(plain, alphas, batch()), loss_and_gradients(fast, alphas, batch()))
    assert is_fast(fast)


class Scaled(nn.Module):
    """A candidate of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def cell_with(own: object) -> Supernet:
    names = ("none", "skip_connect", "sep_conv_3x3")
    candidates = {name: EdgeOperation(name, 4, False, True, 0.0) for name in names}
    torch.manual_seed(0)
    net = nn.Sequential(nas_nn.Cell({**candidates, "own": own}, 2, 2, 2, label="cell"))
    return relax(net)


def test_a_cell_with_a_candidate_of_ones_own_takes_the_plain_path() -> None:
    net = cell_with(lambda node, edge, state: Scaled())
    net.receive(net.activate({k: torch.zeros(shape) for k, shape in net.shapes.items()}))
    x = torch.randn(2, 4, 8, 8)
    assert net.root([x, x]).shape == (2, 8, 8, 8)
    assert not is_fast(net)
    known = cell_with(EdgeOperation("dil_conv_3x3", 4, False, True, 0.0))
    known.receive(known.activate({k: torch.zeros(shape) for k, shape in known.shapes.items()}))
    known.root([x, x])
    assert is_fast(known)


@pytest.mark.parametrize("change", ["hook", "momentum", "affine", "forward", "mode"])
def test_a_changed_candidate_takes_the_plain_path(change: str) -> None:
    fast = supernet(True)
    fast.receive(fast.activate(alphas_of(fast)))
    fast.root(batch()[0])
    assert is_fast(fast)
    candidate = fast.root.get_submodule("cells.0.operations.3_1.sep_conv_5x5")
    seen = []
    if change == "hook":
        candidate.register_forward_hook(lambda *args: seen.append(args))
    elif change == "momentum":
        candidate[3].momentum = 0.5
    elif change == "affine":
        candidate[3] = nn.BatchNorm2d(4).double()
    elif change == "forward":
        candidate.forward = lambda x: seen.append(x) or x
    fast.root.train()  # candidates are looked at when the mode changes
    if change == "mode":
        candidate[3].eval()
    fast.root(batch()[0])
    assert cells(fast)[0]._fast_cell is None
    assert cells(fast)[1]._fast_cell is not None
    assert bool(seen) == (change in ("hook", "forward"))


def test_one_operation_per_edge_takes_the_plain_path() -> None:
    plain, fast = pair()
    outputs = []
    for net in (plain, fast):
        net.receive(net.activate(alphas_of(net)))
        for cell in cells(net):
            cell.hard = (3,) * 14
        outputs.append(net.root(batch()[0]))
    assert torch.equal(*outputs)


def test_float32_gradients_in_channels_last_equal_those_of_float64() -> None:
    """The CPU's batch-norm silently takes wrong gradients there from a scale that is not contiguous."""
    exact, fast = supernet(False), supernet(True, dtype=torch.float32)
    fast.root.to(memory_format=torch.channels_last)
    fast.root.load_state_dict(exact.root.state_dict())
    alphas = alphas_of(exact)
    images, labels = batch()
    expected = loss_and_gradients(exact, alphas, (images, labels))
    alphas32 = {label: alpha.detach().float().requires_grad_() for label, alpha in alphas.items()}
    images = images.float().contiguous(memory_format=torch.channels_last)
    found = loss_and_gradients(fast, alphas32, (images, labels))
    for name in ("output", *(f"alpha {label}" for label in alphas)):
        assert (found[name] - expected[name]).norm() <= 1e-3 * expected[name].norm(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_depthwise_convolutions_have_the_gradients_of_torch(kernel: int, stride: int, dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 8, 12, dtype=dtype, requires_grad=True)
    weight = torch.randn(16, 1, kernel, kernel, dtype=dtype, requires_grad=True)
    x_last = x.contiguous(memory_format=torch.channels_last)
    ours = depthwise(x_last, weight, stride)
    theirs = F.conv2d(x.double(), weight.double(), None, stride, kernel // 2, groups=16)
    direction = torch.randn_like(ours)
    for a, b in zip(
        (ours, *torch.autograd.grad(ours, (x, weight), direction)),
        (theirs, *torch.autograd.grad(theirs, (x, weight), direction.double())),
    ):
        torch.testing.assert_close(
            a.double(), b.double(), atol=1e-4 if dtype == torch.float32 else 1e-11, rtol=0
        )


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (5, 8)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_dilated_convolutions_equal_those_of_torch(kernel: int, stride: int, size: tuple[int, int]) -> None:
    n, edges, c = 2, 3, 4
    torch.manual_seed(0)
    x = torch.randn(2, n * c, *size, dtype=torch.float64)
    weight = torch.randn(n * edges * c, 1, kernel, kernel, dtype=torch.float64)
    found, rows_are_apart = Shared(x, n, edges, stride).dilated(weight)
    assert rows_are_apart == (stride == 1 and size != (5, 8))
    found = join_rows(found) if rows_are_apart else found
    expected = F.conv2d(
        spread(x.relu(), n, edges), weight, None, stride, kernel - 1, dilation=2, groups=n * edges * c
    )
    torch.testing.assert_close(found, expected)
