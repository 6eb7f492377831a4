"""Which modules and functions a network calls in one forward pass, and what goes from one into another."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import flop_registry

from lightning_nas.evaluators.cost import attention_in_parts
from lightning_nas.evaluators.layer_words import function_words, name_of_function
from lightning_nas.mutables.tracing import replaced

# Makers of tensors; without a device they would make them where the rest of the pass is not.
_MAKERS = {
    getattr(torch, name)
    for name in (
        "arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint",
        "randn", "randperm", "tensor", "tril_indices", "triu_indices", "zeros",
    )
}  # fmt: skip
# What gives the same numbers once more is no layer.
_PASSING_ON = {"alias", "contiguous", "cpu", "cuda", "data", "detach", "requires_grad", "to", "type_as"}


@dataclass(eq=False)
class Call:
    """A call of a module that is seen as a whole, or of a function.

    Args:
        kind: class of the module, or name of the function.
        path: of the module, or of the module whose `forward` calls the function.
        module: the module called; None for a function.
        detail: the arguments of a function that are no tensors.
        sources: positions of the calls whose outputs it takes, ascending; no position twice.
        parameters: those it uses, by their paths in the model.
        macs: multiply-accumulate operations; None if it ran something that cannot be counted.
        shape: of the tensor it gives; None if that is not one tensor.
    """

    kind: str
    path: str
    module: nn.Module | None = None
    detail: str = ""
    sources: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()
    macs: int | None = 0
    shape: tuple[int, ...] | None = None


@dataclass
class _Frame:
    """A module whose `forward` is running."""

    path: str
    start: int  # how many calls there were before
    is_whole: bool  # it has no parts that could be seen
    has_calls: bool = False  # of modules


class ForwardTape(TorchFunctionMode):
    """Runs a copy of a model once, in evaluation mode and without gradients, and keeps its calls.

    Args:
        model: copied without its weights; left as it is.
        device: "meta" computes nothing, but cannot run what reads numbers; "cpu" does it all.

    Attributes:
        calls: in the order of execution; first the inputs, last the outputs.
        composites: class names of the modules, by path, whose parts were seen one by one.
    """

    def __init__(self, model: nn.Module, device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.composites: dict[str, str] = {}
        self._device = device
        self._twin = _twin(model, device)
        self._parameters = {id(p): (p, path) for path, p in self._twin.named_parameters()}
        # By id, what made a tensor; the tensors are kept so that no id is used twice.
        self._made: dict[int, tuple[Tensor, int]] = {}
        self._frames: list[_Frame] = []
        self._counter = _MacCounter()
        # What layers make, and at what cost, by their settings and input.
        self._known: dict[Any, tuple[torch.Size, torch.dtype, int]] = {}
        for path, module in self._twin.named_modules():
            # What computes a weight out of others belongs to the layer whose weight it is.
            if "parametrizations" not in path.split("."):
                vars(module)["forward"] = self._watched(module, path, module.forward)

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str]) -> None:
        """Runs the forward pass.

        Args:
            args, kwargs: what it is given; tensors are copied to the device.
            names: of the positional arguments.

        Raises:
            Exception: what the model raises.
        """

        def given(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value.detach().to(self._device, copy=True)

        args, kwargs = replaced(tuple(args), given), replaced(dict(kwargs), given)
        names = [*names, *(f"input_{i}" for i in range(len(names), len(args)))]
        for name, tensor in _named(dict(zip(names, args)) | dict(kwargs), ""):
            self._add(Call("input", name, shape=tuple(tensor.shape)), [tensor])
        with torch.inference_mode(False), torch.no_grad(), attention_in_parts(), self._counter, self:
            output = self._twin(*args, **kwargs)
        for name, tensor in _named(output, "output"):
            self._add(Call("output", name, sources=self._sources([tensor]), shape=tuple(tensor.shape)), [])

    @property
    def is_counted(self) -> bool:
        """Whether the operations of all calls are known."""
        return all(call.macs is not None for call in self.calls)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": self._device}
        if not self._frames or self._frames[-1].is_whole:
            return func(*args, **kwargs)
        given = list(_tensors((args, kwargs)))
        versions = [tensor._version for tensor in given]
        before = self._counter.state
        output = func(*args, **kwargs)
        changed = [tensor for tensor, version in zip(given, versions) if tensor._version != version]
        made = list(_tensors(output))
        if not made and not changed:
            return output
        name = name_of_function(func)
        if name in _PASSING_ON and isinstance(output, Tensor) and given:
            if id(given[0]) in self._made:
                self._made[id(output)] = (output, self._made[id(given[0])][1])
            return output
        if isinstance(output, Tensor) and not changed and any(output is tensor for tensor in given):
            output = output.detach()  # the same tensor once more: told apart from what it was before
            made = [output]
        parameters = [self._parameters[id(t)][1] for t in given if id(t) in self._parameters]
        names = [path.rpartition(".")[2] for path in parameters]
        call = Call(
            name,
            self._frames[-1].path,
            detail=" ".join(filter(None, [", ".join(names), function_words(args, kwargs)])),
            sources=self._sources(given),
            parameters=tuple(parameters),
            macs=self._counter.since(before),
            shape=_shape(output if made else changed[0]),
        )
        self._add(call, [*made, *changed])
        return output

    def _watched(self, module: nn.Module, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        is_whole = bool(path) and not any(True for _ in module.children())
        settings = _settings(module) if is_whole and self._device == "meta" else None

        def run(*args: Any, **kwargs: Any) -> Any:
            start, before = len(self.calls), self._counter.state
            given = list(_tensors((args, kwargs)))
            if self._frames:
                self._frames[-1].has_calls = True
            frame = _Frame(path, start, is_whole)
            self._frames.append(frame)
            try:
                versions = [tensor._version for tensor in given]
                output = self._called(forward, settings, args, kwargs)
                changed = [tensor for tensor, version in zip(given, versions) if tensor._version != version]
                if not changed and any(output is tensor for tensor in given):
                    output = output.detach()  # as above
            finally:
                self._frames.pop()
            if self._is_seen_through(frame, given, output):
                self.composites[path] = type(module).__name__
                return output
            self._forget(start)
            call = Call(
                type(module).__name__,
                path,
                module,
                sources=self._sources(given),
                parameters=tuple(self._parameters[id(p)][1] for p in module.parameters()),
                macs=self._counter.since(before),
                shape=_shape(output),
            )
            self._add(call, [*_tensors(output), *changed])
            return output

        return run

    def _called(self, forward: Callable[..., Any], settings: Any, args: Any, kwargs: Any) -> Any:
        """Runs a module's `forward`; layers of torch.nn that are alike, on inputs that are, only once."""
        if settings is None or kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
            return forward(*args, **kwargs)
        key = (settings, args[0].shape, args[0].dtype)
        if key in self._known:
            shape, dtype, macs = self._known[key]
            self._counter.macs += macs
            return torch.empty(shape, dtype=dtype, device=self._device)
        before = self._counter.state
        output = forward(*args)
        cost = self._counter.since(before)
        if isinstance(output, Tensor) and cost is not None:
            self._known[key] = (output.shape, output.dtype, cost)
        return output

    def _is_seen_through(self, frame: _Frame, given: Sequence[Tensor], output: Any) -> bool:
        """Whether the calls inside a module tell how its outputs come from its inputs."""
        made = list(_tensors(output))
        if not frame.path:
            return True
        if not frame.has_calls or not all(id(tensor) in self._made for tensor in made):
            return False
        if not made or not self._sources(given):
            return True
        waiting, seen = list(self._sources(made)), set[int]()
        while waiting:
            position = waiting.pop()
            if position < frame.start:
                return True
            if position not in seen:
                seen.add(position)
                waiting += self.calls[position].sources
        return False

    def _forget(self, start: int) -> None:
        """Drops the calls from `start` on."""
        if len(self.calls) > start:
            del self.calls[start:]
            self._made = {key: made for key, made in self._made.items() if made[1] < start}

    def _add(self, call: Call, made: Sequence[Tensor]) -> None:
        self._made.update({id(tensor): (tensor, len(self.calls)) for tensor in made})
        self.calls.append(call)

    def _sources(self, given: Sequence[Tensor]) -> tuple[int, ...]:
        return tuple(sorted({self._made[id(tensor)][1] for tensor in given if id(tensor) in self._made}))


class _MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts as torch's `FlopCounterMode` does, without asking each operation whether it could be taken apart."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self._uncounted = 0

    @property
    def state(self) -> tuple[int, int]:
        """What `since` needs."""
        return self.macs, self._uncounted

    def since(self, state: tuple[int, int]) -> int | None:
        """The operations since then; None if some could not be counted."""
        return self.macs - state[0] if self._uncounted == state[1] else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.macs += count(*args, **(kwargs or {}), out_val=output) // 2
        elif any(word in str(func) for word in _FUSED):
            self._uncounted += 1
        return output


# Operations of the CPU that do in one what other devices do in several that are counted.
_FUSED = ("attention", "rnn", "lstm", "gru")


def _twin(model: nn.Module, device: str) -> nn.Module:
    """A copy in evaluation mode without hooks; on the meta device no numbers are copied."""
    memo: dict[int, Any] = {}

    def copied(tensor: Tensor) -> Tensor:
        plain = tensor.detach()
        twin = torch.empty_like(plain, device="meta") if device == "meta" else plain.to(device, copy=True)
        return nn.Parameter(twin, requires_grad=False) if isinstance(tensor, nn.Parameter) else twin

    no_hooks: OrderedDict[int, Any] = OrderedDict()
    for module in model.modules():
        for name, value in vars(module).items():
            if "_hooks" in name and isinstance(value, dict):
                memo[id(value)] = no_hooks  # they would run; and to copy them takes most of the time
            elif isinstance(value, (Dataset, DataLoader)):
                memo[id(value)] = value  # a forward pass has no use for it, and it may be large
            else:
                memo.update(
                    {id(tensor): copied(tensor) for tensor in _tensors(value) if id(tensor) not in memo}
                )
        if _is_plain_layer(module):
            memo[id(module)] = _plain_twin(module, memo)
    twin = copy.deepcopy(model, memo).eval()
    for module in twin.modules():
        vars(module)["_compiled_call_impl"] = None
    return twin


def _is_plain_layer(module: nn.Module) -> bool:
    """Whether it is a layer of torch.nn that holds parameters, buffers and simple settings alone."""
    if not type(module).__module__.startswith("torch.nn.modules.") or module._modules:
        return False
    settings = (v for n, v in vars(module).items() if not n.startswith("_"))
    return all(v is None or isinstance(v, (int, float, str, tuple)) for v in settings) and not isinstance(
        module, nn.RNNBase
    )


def _plain_twin(layer: nn.Module, memo: Mapping[int, Any]) -> nn.Module:
    """A copy of a plain layer with the tensors of `memo`, for which `deepcopy` takes ten times as long."""
    twin: nn.Module = type(layer).__new__(type(layer))
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            value = memo.get(id(value), {key: memo.get(id(item), item) for key, item in value.items()})
        vars(twin)[name] = value
    return twin


def _settings(module: nn.Module) -> Any:
    """What decides, with the input, how large a layer's output is; None if that cannot be told from outside."""
    if not type(module).__module__.startswith("torch.nn.modules.") or getattr(module, "inplace", False):
        return None
    plain = [(n, v) for n, v in vars(module).items() if isinstance(v, (int, float, str, tuple))]
    shapes = [(name, p.shape) for name, p in module._parameters.items() if p is not None]
    return (type(module), *plain, *shapes)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _named(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested lists, tuples and dicts, with their places as names."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, (list, tuple, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _named(item, f"{name}.{key}" if name else str(key))


def _shape(output: Any) -> tuple[int, ...] | None:
    tensors = list(_tensors(output))
    return tuple(tensors[0].shape) if len(tensors) == 1 else None
