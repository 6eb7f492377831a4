"""Charts of networks: what a one-shot search holds of its candidates, how healthy it is, where a network is large."""

from __future__ import annotations

from lightning_nas.architecture import Architecture, Layer
from lightning_nas.charts.options import NARROW_PX, chart, empty, grid, legend, value_axis
from lightning_nas.charts.text import is_finite, number_text, plain, scaled
from lightning_nas.charts.theme import PALETTE, WEIGHTS, Option
from lightning_nas.search_history import SearchHistory

_ENTROPY, _FREE = "search/entropy", "search/parameter_free"
_SCORE, _GAP = "search/derived_score", "search/gap"


def alphas(history: SearchHistory, label: str, position: int) -> Option:
    """The probability of each candidate of one label, as a heat map: rows are edges, columns candidates.

    The colours run from 0 to the largest probability of the whole history, so that they mean the same wherever
    a slider stands.

    Args:
        history: of a one-shot search.
        label: one of `history.candidates`.
        position: of the snapshot in `history.snapshots`; -1 is the last.

    Raises:
        KeyError: if there is no such label.
        IndexError: if there is no such position in a history that has snapshots.
    """
    candidates = history.candidates[label]
    if not any(label in snapshot.weights for snapshot in history.snapshots):
        return empty("No epoch has ended yet")
    snapshot = history.snapshots[position]
    rows = [plain(row, 24) or plain(label, 24) for row in candidates.rows]
    columns = [plain(column, 24) for column in candidates.columns]
    largest = max(
        (p for each in history.snapshots for row in each.weights.get(label, ()) for p in row if is_finite(p)),
        default=1.0,
    )
    data = [
        {
            "value": [j, i, round(p, 4), f"{p:.2f}"],
            "name": f"{rows[i]}, {columns[j]}\nprobability {p:.4f}",
        }
        for i, row in enumerate(snapshot.weights.get(label, ()))
        for j, p in enumerate(row)
        if is_finite(p)
    ]
    return chart(
        f"Probabilities of {label} after epoch {snapshot.epoch}, step {snapshot.step}.",
        title={
            "text": f"{plain(label, 32)} after epoch {snapshot.epoch}",
            "left": 12,
            "top": 4,
            "textStyle": {"fontSize": 13, "fontWeight": "normal"},
        },
        grid=grid(left=12, right=16, top=32, bottom=56),
        xAxis={
            "type": "category",
            "data": columns,
            "splitArea": {"show": False},
            "axisTick": {"show": False},
            "axisLabel": {"interval": 0, "rotate": 0},
        },
        yAxis={
            "type": "category",
            "data": rows,
            "inverse": True,
            "axisTick": {"show": False},
            "axisLabel": {"interval": 0},
        },
        visualMap={
            "type": "continuous",
            "min": 0,
            "max": largest,
            "dimension": 2,
            "inRange": {"color": list(WEIGHTS)},
            "orient": "horizontal",
            "left": "center",
            "bottom": 4,
            "itemWidth": 12,
            "itemHeight": 120,
            "text": [number_text(float(largest)), "probability  0"],
        },
        series=[
            {
                "type": "heatmap",
                "data": data,
                "label": {"show": True, "formatter": "{@[3]}", "fontSize": 10},
            }
        ],
        media=[
            {
                "query": {"maxWidth": NARROW_PX},
                "option": {
                    "series": [{"label": {"show": len(columns) <= 4}}],
                    "xAxis": {"axisLabel": {"rotate": 0 if len(columns) <= 4 else 45}},
                    "grid": {"bottom": 56 if len(columns) <= 4 else 104},
                },
            },
            {
                "option": {
                    "series": [{"label": {"show": len(columns) <= 16}}],
                    "xAxis": {"axisLabel": {"rotate": 0}},
                    "grid": {"bottom": 56},
                }
            },
        ],
    )


def search_health(history: SearchHistory) -> Option:
    """Entropy and parameter-free share over epochs, and beneath them the derived score and the gap if measured.

    See `oneshot.Health` for what they mean.
    """
    if not history.snapshots:
        return empty("No epoch has ended yet")
    has_score = any(is_finite(s.health.get(name)) for s in history.snapshots for name in (_SCORE, _GAP))

    def line(key: str, name: str, colour: int, shape: str, axis: int, panel: int) -> Option:
        # A score is measured every few epochs; the line leads from one measurement to the next.
        known = [(s.epoch, value) for s in history.snapshots if is_finite(value := s.health.get(key))]
        return {
            "type": "line",
            "name": name,
            "data": [
                {"value": [epoch, value], "name": f"epoch {epoch}\n{name} {number_text(float(value))}"}
                for epoch, value in known
            ],
            "symbol": shape,
            "symbolSize": 6,
            "showAllSymbol": len(known) <= 100,
            "itemStyle": {"color": PALETTE[colour]},
            "lineStyle": {"color": PALETTE[colour]},
            "xAxisIndex": panel,
            "yAxisIndex": axis,
        }

    last = history.snapshots[-1].epoch
    epochs = {"minInterval": 1, "min": 0, "max": max(last, 1), "splitLine": {"show": False}}
    share = value_axis("share", nameGap=46, min=0, max=1)
    if not has_score:
        grids, x_axes, y_axes = [grid()], [value_axis("epoch", **epochs)], [share]
    else:
        grids = [grid(right=64, bottom="54%"), grid(right=64, top="56%")]
        x_axes = [
            value_axis("", **epochs, gridIndex=0),
            value_axis("epoch", **epochs, gridIndex=1),
        ]
        y_axes = [
            {**share, "gridIndex": 0},
            value_axis("derived score", nameGap=46, gridIndex=1),
            value_axis(
                "gap", nameGap=46, gridIndex=1, position="right", alignTicks=True, splitLine={"show": False}
            ),
        ]
    series = [
        line(_ENTROPY, "entropy", 0, "circle", 0, 0),
        line(_FREE, "parameter-free share", 1, "triangle", 0, 0),
    ]
    if has_score:
        series += [line(_SCORE, "derived score", 2, "rect", 1, 1), line(_GAP, "gap", 4, "diamond", 2, 1)]
    return chart(
        f"Health of a one-shot search over {len(history.snapshots)} epochs.",
        legend=legend(),
        grid=grids,
        xAxis=x_axes,
        yAxis=y_axes,
        series=series,
    )


def blocks(architecture: Architecture) -> Option:
    """How large each block of a network is: its parameters and, if known, its multiply-accumulates, as bars.

    Blocks are in the order in which they first run; layers without a block count as "other".
    """
    sizes = block_sizes(architecture)
    if not sizes:
        return empty("The network has no layers")
    names = list(sizes)
    has_macs = any(macs is not None for _, macs in sizes.values())
    panels = [("parameters", 0, architecture.params)]
    if has_macs:
        panels.append(("multiply-accumulates", 1, architecture.macs or 0))
    side = {"top": 12, "bottom": 40}
    wide = [{"left": 130, "right": "52%", **side}, {"left": "52%", "right": 24, **side}]
    if not has_macs:
        wide = [{"left": 130, "right": 24, **side}]
    narrow = [
        {"left": 130, "right": 24, "top": 12, "bottom": "60%"},
        {"left": 130, "right": 24, "top": "53%", "bottom": 40},
    ]
    grids, x_axes, y_axes, series = [], [], [], []
    for i, (what, which, total) in enumerate(panels):
        values = [sizes[name][which] for name in names]
        size, unit = scaled(max((value for value in values if value), default=0))
        title = f"{what} ({unit})" if unit else what
        grids.append(grid(**wide[i]))
        x_axes.append(value_axis(title, scale=False, min=0, gridIndex=i, splitNumber=4))
        y_axes.append(
            {
                "type": "category",
                "gridIndex": i,
                "inverse": True,
                "data": [plain(name, 28) for name in names],
                "axisTick": {"show": False},
                "axisLabel": {"width": 120, "overflow": "truncate", "hideOverlap": True},
            }
        )
        series.append(
            {
                "type": "bar",
                "name": what,
                "xAxisIndex": i,
                "yAxisIndex": i,
                "data": [
                    {
                        "value": None if value is None else value / size,
                        "name": f"{plain(name)}\n{_count_text(value, total)} {what}",
                        "block": name,
                    }
                    for name, value in zip(names, values)
                ],
                "barMaxWidth": 18,
                "itemStyle": {"color": PALETTE[i]},
            }
        )
    media = [
        {
            "query": {"maxWidth": NARROW_PX},
            "option": {"grid": narrow, "yAxis": [{"axisLabel": {"show": True}} for _ in panels]},
        },
        {"option": {"grid": wide, "yAxis": [{"axisLabel": {"show": i == 0}} for i, _ in enumerate(panels)]}},
    ]
    return chart(
        f"Parameters of {len(names)} blocks.",
        grid=grids,
        xAxis=x_axes,
        yAxis=y_axes,
        series=series,
        **({"media": media} if has_macs else {}),
    )


def block_sizes(architecture: Architecture) -> dict[str, tuple[int, int | None]]:
    """Parameters and multiply-accumulates of each block, in the order in which they first run.

    The second is None where no layer of the block has a known number. Blocks without either are left out.
    """
    by_block: dict[str, list[Layer]] = {}
    for layer in architecture.layers:
        if layer.kind not in ("input", "output"):
            by_block.setdefault(layer.block or "other", []).append(layer)
    sizes = {
        block: (sum(layer.params for layer in layers), _macs(layers)) for block, layers in by_block.items()
    }
    return {block: size for block, size in sizes.items() if any(size)}


def _macs(layers: list[Layer]) -> int | None:
    known = [layer.macs for layer in layers if layer.macs is not None]
    return sum(known) if known else None


def _count_text(value: int | None, total: int) -> str:
    if value is None:
        return "an unknown number of"
    return f"{value:,} ({100 * value / total:.1f} % of all)" if total else f"{value:,}"
