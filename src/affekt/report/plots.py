"""Plots, each a matplotlib figure of its own, made without a display and without matplotlib's global state.

Only text and axes are drawn in :data:`INK`, so that a web page can replace it by its own text color, dark or light.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.manifold import TSNE

INK = "#24292f"
ACCENT, SECOND, GRID = "#3b82d6", "#d9822b", "#8b949e"  # each readable on white and on black
CLASS_COLOURS = ("#d55e00", "#e6a700", "#2f9fd8", "#8250c8", "#009e73", "#cc79a7", "#8b949e", "#7a5230")
"""The color-blind safe palette of Okabe & Ito, darkened where white paper needs it."""

PANEL_INCHES = (4.0, 3.2)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "grid.color": GRID,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
MOST_POINTS = 1_500
"""Most utterances in a projection; a seeded sample of larger sets."""


@matplotlib.rc_context(STYLE)
def intervals(systems: Mapping[str, Mapping[str, Any]], baseline: str) -> Figure:
    """Pooled UA of each system with its interval; a dashed line marks the baseline."""
    figure, axes = _panel((6.4, 0.9 + 0.32 * len(systems)))
    values = {name: system["pooled"]["ua"] for name, system in systems.items()}
    axes.axvline(100 * values[baseline]["value"], color=GRID, linestyle="--", linewidth=1)
    for row, (name, ua) in enumerate(values.items()):
        color = GRID if name == baseline else ACCENT
        axes.plot([100 * ua["low"], 100 * ua["high"]], [row, row], color=color, linewidth=2.5, solid_capstyle="round")
        axes.plot(100 * ua["value"], row, "o", color=color, markersize=6)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlabel("UA (%)")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    return figure


@matplotlib.rc_context(STYLE)
def trade_off(rows: Sequence[Mapping[str, Any]], price: str) -> Figure:
    """UA with its interval against a cost (parameters or milliseconds); the Pareto front is joined by a line."""
    figure, axes = _panel((5.2, 3.6))
    known = sorted((row for row in rows if row[price]), key=lambda row: (row[price], row["system"]))
    for row in known:
        color = ACCENT if row[f"best_for_{price}"] else GRID
        axes.plot([row[price]] * 2, [100 * row["low"], 100 * row["high"]], color=color, linewidth=1, alpha=0.6)
        axes.plot(row[price], 100 * row["ua"], "o", color=color, markersize=5)
        axes.annotate(row["system"], (row[price], 100 * row["ua"]), (4, 3), textcoords="offset points", fontsize=6)
    best = [row for row in known if row[f"best_for_{price}"]]
    axes.plot([row[price] for row in best], [100 * row["ua"] for row in best], color=ACCENT, linewidth=1, alpha=0.6)
    axes.set_xscale("log")
    axes.set(xlabel=price, ylabel="UA (%)")
    axes.grid()
    return figure


@matplotlib.rc_context(STYLE)
def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Figure:
    """Confusion matrix: true classes in rows, each cell in percent of its row with the count below."""
    figure, axes = _panel((0.8 + 0.8 * len(classes), 0.7 + 0.75 * len(classes)))
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row, column in np.ndindex(*counts.shape):
        share = shares[row, column]
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=ACCENT, alpha=0.8 * share))
        axes.text(column, row - 0.08, f"{100 * share:.1f}", ha="center", va="center", fontsize=10)
        axes.text(column, row + 0.27, f"{counts[row, column]:,}", ha="center", va="center", fontsize=7)
    ticks = range(len(classes))
    axes.set_xticks(ticks, list(classes), rotation=30 if len(classes) > 5 else 0)
    axes.set_yticks(ticks, list(classes))
    axes.set(
        xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), xlabel="predicted class", ylabel="true class"
    )
    axes.tick_params(length=0)
    axes.set_title(title)
    return figure


@matplotlib.rc_context(STYLE)
def learning_curves(histories: Sequence[tuple[pd.DataFrame, int]], title: str) -> Figure:
    """Accuracy by epoch of every job of a system; a dot marks the epoch whose weights are kept."""
    figure, axes = _panel(PANEL_INCHES)
    for history, best_epoch in histories:
        axes.plot(history["epoch"], 100 * history["train_accuracy"], color=GRID, linewidth=0.8, alpha=0.7)
        axes.plot(history["epoch"], 100 * history["validation_accuracy"], color=ACCENT, linewidth=1, alpha=0.8)
        best = history[history["epoch"] == best_epoch]
        axes.plot(best["epoch"], 100 * best["validation_accuracy"], "o", color=SECOND, markersize=4)
    axes.plot([], [], color=GRID, label="training")
    axes.plot([], [], color=ACCENT, label="validation")
    axes.plot([], [], "o", color=SECOND, markersize=4, label="kept")
    axes.legend(loc="lower right", fontsize=7)
    axes.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid()
    axes.set_title(title)
    return figure


@matplotlib.rc_context(STYLE)
def reliability(bins: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Reliability diagram: accuracy against confidence; the area of a dot shows its number of utterances."""
    figure, axes = _panel((3.4, 3.2))
    count, confidence, accuracy = (np.asarray(bins[name], float) for name in ("count", "confidence", "accuracy"))
    kept = count > 0
    axes.plot([0, 100], [0, 100], color=GRID, linestyle="--", linewidth=1)
    axes.plot(100 * confidence[kept], 100 * accuracy[kept], color=ACCENT, linewidth=1, alpha=0.6)
    area = 8 + 160 * count[kept] / count.max()
    axes.scatter(100 * confidence[kept], 100 * accuracy[kept], s=area, color=ACCENT, alpha=0.8, linewidths=0)
    axes.set(xlim=(0, 102), ylim=(0, 102), xlabel="confidence (%)", ylabel="accuracy (%)")
    axes.grid()
    axes.set_title(title)
    return figure


@matplotlib.rc_context(STYLE)
def projection(
    embeddings: Float[NDArray[np.float32], "utterances features"],
    labels: Int[NDArray[np.int64], " utterances"],
    classes: Sequence[str],
    method: str,
    title: str,
) -> Figure:
    """Two-dimensional projection of deep features, colored by the true class."""
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(labels))[:MOST_POINTS])
    points = project(embeddings[chosen], method)
    figure, axes = _panel(PANEL_INCHES)
    order = rng.permutation(len(chosen))  # otherwise the last class would cover the others
    colors = np.array([CLASS_COLOURS[index % len(CLASS_COLOURS)] for index in labels[chosen]])
    x, y = points[order].T
    axes.scatter(x, y, c=colors[order], s=9, alpha=0.75, linewidths=0, rasterized=True)
    for index, name in enumerate(classes):
        axes.plot([], [], "o", color=CLASS_COLOURS[index % len(CLASS_COLOURS)], markersize=4, label=name)
    figure.legend(fontsize=7, ncols=4, loc="outside lower center", handletextpad=0.2, columnspacing=1)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title)
    return figure


def project(
    embeddings: Float[NDArray[np.float32], "utterances features"], method: str, seed: int = 0
) -> Float[NDArray[np.float64], "utterances 2"]:
    """Project features onto the plane by PCA (`pca`) or t-SNE (`tsne`).

    >>> project(np.array([[0.0, 5.0, 0.0], [1.0, 5.0, 0.0], [2.0, 5.0, 0.0]]), "pca")[:, 0].round(6).tolist()
    [-1.0, 0.0, 1.0]
    """
    features = np.asarray(embeddings, np.float64)
    if method == "tsne" and len(features) > 3:
        perplexity = min(30.0, (len(features) - 1) / 3)
        return np.asarray(TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(features))
    centered = features - features.mean(0)
    _, _, directions = np.linalg.svd(centered, full_matrices=False)
    directions = directions[:2] * np.sign(directions[:2].sum(1, keepdims=True))  # the sign of a component is arbitrary
    return np.pad(centered @ directions.T, ((0, 0), (0, 2 - len(directions))))


def svg(figure: Figure, name: str) -> str:
    """A transparent SVG, deterministic for equal figures and names."""
    return _save(figure, name, "svg", facecolor="none").decode()


def on_white(text: str) -> str:
    """An SVG file of its own, with a white background."""
    return text.replace("<svg ", '<svg style="background: white" ', 1)


def inline(text: str) -> str:
    """An SVG as an element of a web page: in the page's text color, scalable, without clashing ids."""
    head, _, body = text[text.index("<svg") :].partition(">")
    head = re.sub(r' (?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", head)  # viewBox stays
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", body)
    return f"{head}>{body}".replace(INK, "currentColor").strip()


def pdf(figure: Figure, name: str) -> bytes:
    """A PDF page, deterministic for equal figures."""
    return _save(figure, name, "pdf", facecolor="white")


def _panel(inches: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=inches, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, name: str, kind: str, facecolor: str) -> bytes:
    """The bytes of a figure, without a timestamp."""
    date = "Date" if kind == "svg" else "CreationDate"
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, facecolor=facecolor, dpi=150, metadata={date: None})
    figure.set_layout_engine("none")  # keep the layout for the next format
    return buffer.getvalue()
