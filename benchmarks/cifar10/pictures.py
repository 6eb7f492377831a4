"""Draws what a run has written: the alphas over time, the cells, the learning curves.

    python benchmarks/cifar10/pictures.py runs/darts [more runs ...]

Also while the run goes on. Heat-maps and curves need matplotlib (`pip install "lightning-nas[plots]"`); the cells
are SVG and need nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.drawing import cell_svg
from lightning_nas.search_history import FILE as SEARCH_FILE
from lightning_nas.search_history import SearchHistory, read_search

INK, GREY, CHOSEN = "#1f2933", "#6b7785", "#d4351c"
TRAIN, HELD_OUT, THIRD = "#2563a8", "#b5541c", "#4d7a35"


def draw_run(run: Path) -> list[Path]:
    """Draws everything that the run has data for, into its folder; returns the files."""
    drawn: list[Path] = []
    genotype = _read(run / "genotype.json")
    if genotype is not None:
        drawn += draw_cells(genotype, run, run.name)
    search = read_search(run / SEARCH_FILE) if (run / SEARCH_FILE).exists() else SearchHistory({})
    rows = _read(run / "curves.json")
    if not search.snapshots and not rows:
        return drawn
    try:
        import matplotlib
    except ModuleNotFoundError:
        print('No PNGs, as matplotlib is not installed: pip install "lightning-nas[plots]".', file=sys.stderr)
        return drawn
    matplotlib.use("agg")
    if search.snapshots:
        drawn += [_alphas(search, label, run) for label in search.candidates]
    if rows:
        drawn.append(_curves(rows, run))
    return drawn


def draw_cells(genotype: Mapping[str, Sequence], folder: Path, name: str) -> list[Path]:
    """Writes `cell-normal.svg` and `cell-reduce.svg` of what `genotype.json` holds."""
    paths = []
    for kind, words in (("normal", "Normal cell"), ("reduce", "Reduction cell")):
        pairs = list(zip(genotype[kind][::2], genotype[kind][1::2]))
        drawing = cell_svg(
            pairs, genotype[f"{kind}_concat"], f"{words} of {name}", is_reduction=kind == "reduce"
        )
        path = folder / f"cell-{kind}.svg"
        path.write_text(drawing, encoding="utf-8")
        paths.append(path)
    return paths


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def derived_edges(sample: Mapping[str, Any], cell: str) -> set[tuple[str, str]]:
    """The chosen edges of a cell: pairs of an edge, `{node}_{state}`, and its operation."""
    edges = set()
    for label, operation in sample.items():
        if label.startswith(f"{cell}/op_"):
            node, k = label.rsplit("_", 2)[1:]
            together = sample.get(f"{cell}/input_{node}")
            state = sample[f"{cell}/input_{node}_{k}"] if together is None else together[int(k)]
            edges.add((f"{node}_{state}", operation))
    return edges


def _alphas(search: SearchHistory, label: str, run: Path) -> Path:
    """One heat-map per edge: a row for each operation, a column for each epoch; the derived ones are marked."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
    from matplotlib.patches import Rectangle

    edges, operations = search.candidates[label].rows, search.candidates[label].columns
    epochs, last = search.snapshots, search.snapshots[-1]
    weights = np.array([each.weights[label] for each in epochs])  # (epochs, edges, operations)
    # White is the weight of an undecided edge, 1/k; differences below 0.001 would only be noise made visible.
    even = 1 / len(operations)
    norm = TwoSlopeNorm(even, min(weights.min(), even - 0.001), max(weights.max(), even + 0.001))
    colours = LinearSegmentedColormap.from_list("weights", ["#565f69", "#ffffff", "#08407e"])
    chosen = derived_edges(last.sample, label)
    places = [tuple(map(int, edge.split("_"))) if "_" in edge else (0, 0) for edge in edges]
    nodes, states = sorted({node for node, _ in places}), sorted({state for _, state in places})
    figure, axes = plt.subplots(
        len(nodes),
        len(states),
        figsize=(1.9 + 2.1 * len(states), 1.1 + 1.75 * len(nodes)),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_visible(False)
    left, right = epochs[0].epoch + 0.5, last.epoch + 1.5
    image: Any = None
    for number, (edge, (node, state)) in enumerate(zip(edges, places)):
        axis = axes[nodes.index(node), states.index(state)]
        axis.set_visible(True)
        image = axis.imshow(
            weights[:, number].T,
            aspect="auto",
            cmap=colours,
            norm=norm,
            interpolation="nearest",
            extent=(left, right, len(operations) - 0.5, -0.5),
        )
        axis.set_title(_edge_name(node, state), fontsize=9, color=INK)
        axis.set_yticks(range(len(operations)), operations if state == 0 else [])
        axis.tick_params(labelsize=8, length=0, colors=GREY)
        axis.locator_params(axis="x", nbins=4, integer=True)
        if node != nodes[-1]:
            axis.set_xticklabels([])
        for spine in axis.spines.values():
            spine.set_color("#c6ced8")
        for row, operation in enumerate(operations):
            if (edge, operation) in chosen:
                for spine in axis.spines.values():
                    spine.set(color=CHOSEN, linewidth=1.6)
                mark = Rectangle(
                    (left, row - 0.5), right - left, 1, fill=False, edgecolor=CHOSEN, linewidth=1.6
                )
                mark.set_clip_on(False)
                axis.add_patch(mark)
                axis.set_title(f"{_edge_name(node, state)}: {operation}", fontsize=9, color=CHOSEN)
    figure.supxlabel("epoch", fontsize=10, color=INK)
    entropy = last.health.get("search/entropy")
    title = f"{label.capitalize()} cell: softmax weights of the operations on each edge"
    note = "" if entropy is None else f"; entropy {entropy:.3f} of 1"
    figure.suptitle(f"{title}\nred: derived after epoch {last.epoch + 1}{note}", fontsize=11, color=INK)
    bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01)
    bar.set_label("weight", fontsize=9, color=INK)
    bar.ax.axhline(even, color=INK, linewidth=1)
    bar.ax.text(-0.15, even, f"1/{len(operations)} ", ha="right", va="center", fontsize=8)
    bar.ax.tick_params(labelsize=8, colors=GREY)
    path = run / f"alphas-{label.replace('/', '-')}.png"
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _edge_name(node: int, state: int) -> str:
    return f"{state} → {node}"


def _curves(rows: Sequence[Mapping[str, float]], run: Path) -> Path:
    """Loss, accuracy and, in a search, how decided the alphas are."""
    import matplotlib.pyplot as plt

    panels: list[tuple[str, dict[str, tuple[str, str]], float]] = [
        ("Loss", {"train/loss": ("training", TRAIN), "val/loss": ("held out", HELD_OUT)}, 1),
        (
            "Accuracy, %",
            {"train/accuracy": ("training", TRAIN), "val/accuracy": ("held out", HELD_OUT)},
            100,
        ),
        (
            "Alphas",
            {
                "search/entropy": ("entropy (1: undecided)", THIRD),
                "search/parameter_free": ("derived without weights", GREY),
            },
            1,
        ),
    ]
    panels = [panel for panel in panels if any(name in row for row in rows for name in panel[1])]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(0.3 + 4.1 * len(panels), 3.6), squeeze=False, layout="constrained"
    )
    for axis, (title, lines, scale) in zip(axes[0], panels):
        for name, (words, colour) in lines.items():
            points = [(row["epoch"] + 1, scale * row[name]) for row in rows if name in row]
            if not points:
                continue
            x, y = zip(*points)
            value = f"{y[-1]:.1f}" if scale == 100 else f"{y[-1]:.3f}"
            axis.plot(
                x, y, color=colour, linewidth=1.8, marker="o" if len(x) < 25 else None, markersize=3.5,
                label=f"{words}: {value}",
            )  # fmt: skip
        axis.set_title(title, fontsize=11, color=INK, loc="left")
        axis.set_xlabel("epoch", fontsize=9, color=INK)
        axis.locator_params(axis="x", integer=True)
        axis.tick_params(labelsize=8, colors=GREY)
        axis.grid(color="#e4e8ed", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8.5, frameon=False, title="last epoch", title_fontsize=8.5, alignment="left")
    axes[0][-1].set_ylim(bottom=0 if panels[-1][0] == "Alphas" else None)
    path = run / "curves.png"
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def draw_comparison(result: Mapping[str, Any], path: Path) -> None:
    """The test accuracies of the derived network and of random ones, on a line."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    scores = [100 * row["test_accuracy"] for row in result["random"]]
    derived = 100 * result["derived"]["test_accuracy"]
    mean = sum(scores) / len(scores)
    figure, axis = plt.subplots(figsize=(7, 2.1), layout="constrained")
    axis.scatter(scores, [0] * len(scores), s=60, color=GREY, alpha=0.75, zorder=3)
    axis.scatter([derived], [0.35], s=90, color=CHOSEN, marker="D", zorder=4)
    axis.axvline(mean, color=GREY, linewidth=1.2, linestyle="--")
    axis.annotate(f"mean of {len(scores)} random cells\n{mean:.2f} %", (mean, -0.7), ha="center", va="top",
                  fontsize=9, color=GREY, backgroundcolor="white")  # fmt: skip
    axis.annotate(f"derived\n{derived:.2f} %", (derived, 0.65), ha="center", fontsize=9, color=CHOSEN)
    axis.set_ylim(-2.2, 1.9)
    axis.margins(x=0.1)
    axis.set_yticks([])
    axis.set_xlabel("test accuracy, %", fontsize=9, color=INK)
    axis.xaxis.set_label_position("top")
    axis.xaxis.tick_top()
    axis.tick_params(labelsize=8, colors=GREY)
    axis.spines[["left", "right", "bottom"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for folder in map(Path, sys.argv[1:]):
        for file in draw_run(folder):
            print(file)
