"""The figures of the study: forest plots, and compactness against recognition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from affekt.report.corpus_names import corpus_name
from affekt.report.plots import ACCENT, GRID, INK, SECOND, STYLE
from affekt.results.study_analysis import EffectOverCorpora

COLORS = {"encoder": ACCENT, "paper": SECOND}
SERIES = ("#2f9fd8", "#d55e00", "#009e73", "#cc79a7")
ALL = "all corpora"
Rows = Mapping[str, Sequence[EffectOverCorpora]]
"""Estimates by network, one per panel."""


@matplotlib.rc_context(STYLE)
def forest(estimates: Rows, titles: Sequence[str], label: str, marks: Sequence[float] = (0.0,)) -> Figure:
    """One panel per comparison: every corpus with its interval, a diamond for the combined effect.

    The thin line through a diamond is the prediction interval. The axis holds the estimates of the first network with a
    combined effect; wider intervals run out of the frame.

    Args:
        estimates: by network, one estimate per panel.
        titles: one per panel.
        label: of the horizontal axis.
        marks: values at which a dashed line is drawn, in points.
    """
    lines = [(network, corpus) for network, rows in estimates.items() for corpus in (*_corpora(rows), "combined")]
    lines = [line for line in lines if line[1] != "combined" or _is_combined(estimates[line[0]])]
    figure = Figure(figsize=(2.2 + 2.3 * len(titles), 1.0 + 0.26 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(titles), sharex=True, sharey=True, squeeze=False)[0]
    for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for mark in marks:
            axes.axvline(mark, color=GRID, linestyle="-" if mark == 0 else "--", linewidth=1)
        for height, (network, corpus) in enumerate(lines):
            _draw(axes, height, estimates[network][number], corpus, COLORS[network])
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    several = len(estimates) > 1
    shown = [ALL if corpus == "combined" else corpus_name(corpus) for _, corpus in lines]
    names = [f"{name} ({line[0]})" if several else name for name, line in zip(shown, lines, strict=True)]
    panels[0].set_yticks(range(len(lines)), names)
    if reach := _reach(estimates, marks):
        panels[0].set_xlim(*reach)
    panels[0].set_ylim(len(lines) - 0.5, -0.5)
    return figure


def _reach(estimates: Rows, marks: Sequence[float]) -> tuple[float, float] | None:
    """Ends of the axis, in points; None where nothing is combined, for the default."""
    rows = next((rows for rows in estimates.values() if _is_combined(rows)), ())
    ends = [100 * end for row in rows for effect in row.corpora for end in (effect.low, effect.high)]
    if not ends:
        return None
    low, high = min(*ends, *marks), max(*ends, *marks)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _corpora(rows: Sequence[EffectOverCorpora]) -> list[str]:
    return sorted({effect.corpus for row in rows for effect in row.corpora})


def _is_combined(rows: Sequence[EffectOverCorpora]) -> bool:
    return any(row.combined is not None for row in rows)


def _draw(axes: Axes, height: float, estimate: EffectOverCorpora, corpus: str, color: str) -> None:
    if corpus == "combined":
        if estimate.combined is not None:
            value, low, high = (100 * end for end in estimate.combined.effect)
            corners = [(low, height), (value, height - 0.3), (high, height), (value, height + 0.3)]
            axes.add_patch(Polygon(corners, color=INK))
            if estimate.combined.prediction is not None:
                _, low, high = (100 * end for end in estimate.combined.prediction)
                axes.plot([low, high], [height, height], color=INK, linewidth=0.8)
        return
    for effect in estimate.corpora:
        if effect.corpus == corpus:
            axes.plot([100 * effect.low, 100 * effect.high], [height, height], color=color, linewidth=1.5)
            axes.plot(100 * effect.value, height, "s", color=color, markersize=4)


@matplotlib.rc_context(STYLE)
def compactness(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Figure:
    """Gain in UA against the change of the Fisher ratio, one point per corpus.

    Args:
        panels: title -> proposal -> pairs of the Fisher ratio over the baseline's, and the gain in UA.
    """
    figure = Figure(figsize=(1.2 + 3.2 * len(panels), 3.2), layout="constrained")
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, systems) in zip(drawn, panels.items(), strict=True):
        axes.axhline(0, color=GRID, linewidth=1)
        axes.axvline(1, color=GRID, linewidth=1)
        for color, (name, points) in zip(SERIES, systems.items(), strict=False):
            ratios, gains = [ratio for ratio, _ in points], [100 * gained for _, gained in points]
            axes.plot(ratios, gains, "o", color=color, markersize=4, label=name)
        axes.set_title(title)
        axes.set_xlabel("Fisher ratio / that of the baseline")
        axes.grid()
    drawn[0].set_ylabel("UA gain (points)")
    drawn[-1].legend(fontsize=7)
    return figure
