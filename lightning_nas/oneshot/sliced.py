"""Layers whose sizes are searched: one layer at its widest, of which each candidate uses a slice.

The weights of the candidates make an expected mask over the widest parameters. With all weight on one
candidate the layer computes what that candidate's own layer would, padded with zeros.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.errors import SpaceError
from lightning_nas.mutables import Expression
from lightning_nas.oneshot.mixed import Relaxed

MAX_COMBINATIONS = 4096
"""Of the candidates of all labels that one layer depends on."""


class Sliced(Relaxed):
    """A layer of torch's that depends on values; its class is swapped in place by `slice_layer`."""

    labels: tuple[str, ...]
    candidates: tuple[tuple[Any, ...], ...]
    combinations: list[dict[str, Any]]
    _shares: Tensor | None

    def receive(self, weights: Mapping[str, Tensor]) -> None:
        shares = weights[self.labels[0]]
        for label in self.labels[1:]:
            shares = (shares[:, None] * weights[label][None, :]).flatten()
        self._shares = shares

    def follow(self, sample: Mapping[str, Any] | None) -> None:
        if sample is None:
            self._shares = None
            return
        # A label of a part that the sample leaves out does not matter: nothing runs there.
        index = 0
        for label, values in zip(self.labels, self.candidates):
            index = index * len(values) + (values.index(sample[label]) if label in sample else 0)
        buffer = next(buffer for name, buffer in self.named_buffers() if name.startswith("mask_"))
        self._shares = F.one_hot(torch.tensor(index), len(self.combinations)).to(buffer)

    def shares(self) -> Tensor:
        """The weight of each combination of candidates, shape (combinations,)."""
        if self._shares is None:
            raise RuntimeError(
                f"The supernet has no weights for {self.labels} yet; they are set by its search."
            )
        return self._shares

    def prepare(self, attributes: Mapping[str, Sequence[Any]]) -> None:
        """Makes the masks from what each attribute is under each combination. Changes itself.

        Raises:
            SpaceError: if the layer cannot be sliced so.
        """
        raise NotImplementedError


def _prefixes(sizes: Sequence[int], widest: int) -> Tensor:
    """Shape (combinations, widest): ones up to each size."""
    return (torch.arange(widest)[None, :] < torch.tensor(list(sizes))[:, None]).float()


class SlicedLinear(Sliced, nn.Linear):
    """Features in and out are prefixes of the widest."""

    mask_out: Tensor
    mask_in: Tensor

    def prepare(self, attributes: Mapping[str, Sequence[Any]]) -> None:
        n = len(self.combinations)
        self.register_buffer(
            "mask_out",
            _prefixes(attributes.get("out_features", [self.out_features] * n), self.out_features),
            False,
        )
        self.register_buffer(
            "mask_in",
            _prefixes(attributes.get("in_features", [self.in_features] * n), self.in_features),
            False,
        )

    def forward(self, input: Tensor) -> Tensor:
        shares = self.shares().to(self.weight.dtype)
        scaled = shares[:, None] * self.mask_out
        bias = None if self.bias is None else self.bias * scaled.sum(0)
        return F.linear(input, self.weight * (scaled.t() @ self.mask_in), bias)


class _SlicedConv(Sliced, nn.modules.conv._ConvNd):
    """Channels are prefixes, kernels the centre, of the widest."""

    mask_out: Tensor
    mask_in: Tensor
    mask_kernel: Tensor

    def prepare(self, attributes: Mapping[str, Sequence[Any]]) -> None:
        n = len(self.combinations)
        outs = list(attributes.get("out_channels", [self.out_channels] * n))
        ins = list(attributes.get("in_channels", [self.in_channels] * n))
        groups = list(attributes.get("groups", [self.groups] * n))
        is_depthwise = all(o == i == g for o, i, g in zip(outs, ins, groups))
        is_plain = all(g == 1 for g in groups)
        channels_vary = len({*outs}) > 1 or len({*ins}) > 1
        if not is_plain and not (is_depthwise or (not channels_vary and len({*groups}) == 1)):
            raise SpaceError("its groups are neither 1 nor those of a depthwise convolution")
        kernels = [tuple(k) for k in attributes.get("kernel_size", [self.kernel_size] * n)]
        if isinstance(self.padding, str):
            if self.padding == "valid" and len({*kernels}) > 1:
                raise SpaceError("its output shrinks with its kernel; use padding='same' or kernel // 2")
        else:
            self._check_padding(kernels, [tuple(p) for p in attributes.get("padding", [self.padding] * n)])
        width = self.in_channels // self.groups
        per_group = [1] * n if is_depthwise and not is_plain else [i // g for i, g in zip(ins, groups)]
        self.register_buffer("mask_out", _prefixes(outs, self.out_channels), False)
        self.register_buffer("mask_in", _prefixes(per_group, width), False)
        self.register_buffer("mask_kernel", torch.stack([self._centre(kernel) for kernel in kernels]), False)

    def _check_padding(self, kernels: Sequence[tuple[int, ...]], paddings: Sequence[tuple[int, ...]]) -> None:
        for kernel, padding in zip(kernels, paddings):
            for k, widest, p, q, dilation in zip(
                kernel, self.kernel_size, padding, cast(Any, self.padding), self.dilation
            ):
                if (widest - k) % 2 or 2 * (q - p) != dilation * (widest - k):
                    raise SpaceError(
                        f"a kernel of {k} with padding {p} is not the centre of one of {widest} with padding {q}; "
                        "use kernel // 2"
                    )

    def _centre(self, kernel: tuple[int, ...]) -> Tensor:
        mask = torch.zeros(self.kernel_size)
        mask[tuple(slice((w - k) // 2, (w + k) // 2) for k, w in zip(kernel, self.kernel_size))] = 1
        return mask.flatten()

    def forward(self, input: Tensor) -> Tensor:
        shares = self.shares().to(self.weight.dtype)
        scaled = shares[:, None] * self.mask_out
        mask = torch.einsum("co,ci,ck->oik", scaled, self.mask_in, self.mask_kernel)
        bias = None if self.bias is None else self.bias * scaled.sum(0)
        weight = self.weight * mask.reshape(self.weight.shape)
        return cast(Tensor, cast(Any, self)._conv_forward(input, weight, bias))


class SlicedConv1d(_SlicedConv, nn.Conv1d):
    """See `_SlicedConv`."""


class SlicedConv2d(_SlicedConv, nn.Conv2d):
    """See `_SlicedConv`."""


class SlicedConv3d(_SlicedConv, nn.Conv3d):
    """See `_SlicedConv`."""


class _SlicedBatchNorm(Sliced, nn.modules.batchnorm._BatchNorm):
    """Channels are a prefix of the widest; each is normalised on its own anyway."""

    mask_out: Tensor

    def prepare(self, attributes: Mapping[str, Sequence[Any]]) -> None:
        self.register_buffer("mask_out", _prefixes(attributes["num_features"], self.num_features), False)

    def forward(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        mask = (self.shares().to(output.dtype) @ self.mask_out.to(output.dtype)).reshape(
            -1, *[1] * (input.ndim - 2)
        )
        return output * mask


class SlicedBatchNorm1d(_SlicedBatchNorm, nn.BatchNorm1d):
    """See `_SlicedBatchNorm`."""


class SlicedBatchNorm2d(_SlicedBatchNorm, nn.BatchNorm2d):
    """See `_SlicedBatchNorm`."""


class SlicedBatchNorm3d(_SlicedBatchNorm, nn.BatchNorm3d):
    """See `_SlicedBatchNorm`."""


class SlicedLayerNorm(Sliced, nn.LayerNorm):
    """The normalised axis is a prefix of the widest; each candidate's statistics are those of its prefix."""

    mask_sizes: Tensor

    def prepare(self, attributes: Mapping[str, Sequence[Any]]) -> None:
        shapes = [tuple(shape) for shape in attributes["normalized_shape"]]
        if any(len(shape) != 1 for shape in shapes):
            raise SpaceError("it normalises several axes")
        self._sizes = sorted({shape[0] for shape in shapes})
        which = torch.tensor([self._sizes.index(shape[0]) for shape in shapes])
        self.register_buffer("mask_sizes", F.one_hot(which, len(self._sizes)).float(), False)

    def forward(self, input: Tensor) -> Tensor:
        shares = self.shares().to(input.dtype) @ self.mask_sizes.to(input.dtype)
        widest = self.normalized_shape[0]
        total: Tensor | None = None
        for share, size in zip(shares, self._sizes):
            weight = None if self.weight is None else self.weight[:size]
            bias = None if self.bias is None else self.bias[:size]
            part = F.layer_norm(input[..., :size], (size,), weight, bias, self.eps)
            part = share * F.pad(part, (0, widest - size))
            total = part if total is None else total + part
        return cast(Tensor, total)


class _SlicedDropout(Sliced, nn.modules.dropout._DropoutNd):
    """One random number per unit decides for all candidates; each scales as it would alone."""

    mask_p: Tensor

    def prepare(self, attributes: Mapping[str, Sequence[Any]]) -> None:
        self._probabilities = [float(p) for p in attributes["p"]]
        self.register_buffer("mask_p", torch.tensor(self._probabilities), False)

    def _noise_shape(self, input: Tensor) -> tuple[int, ...]:
        return tuple(input.shape)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        shares = self.shares().to(input.dtype)
        noise = torch.rand(self._noise_shape(input), device=input.device, dtype=input.dtype)
        scale = torch.zeros_like(noise)
        for share, p in zip(shares, self._probabilities):
            if p < 1:
                scale = scale + share * (noise >= p).to(input.dtype) / (1 - p)
        return input * scale


class SlicedDropout(_SlicedDropout, nn.Dropout):
    """See `_SlicedDropout`."""


class SlicedDropout2d(_SlicedDropout, nn.Dropout2d):
    """See `_SlicedDropout`; drops whole channels."""

    def _noise_shape(self, input: Tensor) -> tuple[int, ...]:
        return (*input.shape[:-2], 1, 1)


_KINDS: dict[type[nn.Module], tuple[type[Sliced], frozenset[str]]] = {
    nn.Linear: (SlicedLinear, frozenset({"in_features", "out_features"})),
    **{
        layer: (sliced, frozenset({"in_channels", "out_channels", "kernel_size", "padding", "groups"}))
        for layer, sliced in ((nn.Conv1d, SlicedConv1d), (nn.Conv2d, SlicedConv2d), (nn.Conv3d, SlicedConv3d))
    },
    nn.BatchNorm1d: (SlicedBatchNorm1d, frozenset({"num_features"})),
    nn.BatchNorm2d: (SlicedBatchNorm2d, frozenset({"num_features"})),
    nn.BatchNorm3d: (SlicedBatchNorm3d, frozenset({"num_features"})),
    nn.LayerNorm: (SlicedLayerNorm, frozenset({"normalized_shape"})),
    nn.Dropout: (SlicedDropout, frozenset({"p"})),
    nn.Dropout2d: (SlicedDropout2d, frozenset({"p"})),
}

# Follows from padding and kernel_size, and is not used unless `padding_mode` is, which is refused.
_DERIVED = "_reversed_padding_repeated_twice"


def slice_layer(
    layer: nn.Module,
    path: str,
    expressions: Mapping[str, Expression],
    candidates: Mapping[str, Sequence[Any]],
) -> Sliced:
    """Turns a layer at its widest into a sliced one, in place.

    Args:
        layer: a layer of torch's.
        path: where it stands, for messages.
        expressions: how its attributes follow from labels.
        candidates: the values of each label.

    Raises:
        SpaceError: if it cannot be sliced so; the message names the label and the attribute.
    """
    expressions = {name: e for name, e in expressions.items() if name != _DERIVED}
    labels = tuple(sorted(frozenset().union(*(e.labels for e in expressions.values()))))
    spelt = " and ".join(map(repr, labels))
    kind = _KINDS.get(type(layer))
    unknown = sorted(expressions) if kind is None else sorted(expressions.keys() - kind[1])
    if kind is None or unknown or getattr(layer, "padding_mode", "zeros") != "zeros":
        raise SpaceError(
            f"The value {spelt} cannot be searched in one shot: it sets {', '.join(unknown) or 'padding'} of the "
            f"{type(layer).__name__} `{path}`, which cannot be sliced. A multi-trial strategy can search it."
        )
    if math.prod(len(candidates[label]) for label in labels) > MAX_COMBINATIONS:
        raise SpaceError(
            f"The {type(layer).__name__} `{path}` depends on {spelt}, which have more than {MAX_COMBINATIONS} "
            "combinations; use fewer candidates."
        )
    values = [tuple(candidates[label]) for label in labels]
    layer.__class__ = kind[0]
    sliced = cast(Sliced, layer)
    sliced.labels, sliced.candidates = labels, tuple(values)
    sliced.combinations = [dict(zip(labels, combination)) for combination in itertools.product(*values)]
    sliced._shares = None
    evaluate: Callable[[Expression], list[Any]] = lambda e: [e.evaluate(c) for c in sliced.combinations]  # noqa: E731
    try:
        sliced.prepare({name: evaluate(expression) for name, expression in expressions.items()})
    except SpaceError as error:
        raise SpaceError(
            f"The value {spelt} cannot be searched in one shot: the {type(layer).__bases__[-1].__name__} `{path}` "
            f"cannot be sliced, since {error}."
        ) from None
    return sliced
