"""Plots show their data, are deterministic and need no display."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from affekt.report import plots

CLASSES = ("angry", "happy")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def example() -> Figure:
    return plots.confusion([[3, 1], [0, 0]], CLASSES, "baseline")


def test_confusion_shows_percent_of_the_row_and_counts() -> None:
    assert texts(example()) == ["75.0", "3", "25.0", "1", "0.0", "0", "0.0", "0"]
    alphas = [patch.get_alpha() for patch in example().axes[0].patches]
    assert alphas == pytest.approx([0.6, 0.2, 0.0, 0.0])


def test_intervals_match_the_summary() -> None:
    pooled = {"ua": {"value": 0.6, "low": 0.55, "high": 0.64}}
    figure = plots.intervals({"baseline": {"pooled": pooled}, "focal": {"pooled": pooled}}, "baseline")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["baseline", "focal"]
    dashed, *drawn = axes.lines
    assert dashed.get_xdata()[0] == 60.0
    assert [x for line in drawn for x in line.get_xdata()] == pytest.approx([55, 64, 60] * 2)


def test_learning_curves_mark_the_epoch_that_was_kept() -> None:
    accuracy = {"train_accuracy": [0.4, 0.6, 0.8], "validation_accuracy": [0.3, 0.5, 0.4]}
    history = pd.DataFrame({"epoch": [1, 2, 3]} | accuracy)
    lines = plots.learning_curves([(history, 2)], "focal").axes[0].lines
    assert list(lines[1].get_ydata()) == pytest.approx([30, 50, 40])
    assert (list(lines[2].get_xdata()), list(lines[2].get_ydata())) == ([2], [50.0])


def test_reliability_leaves_empty_bins_out() -> None:
    bins = {"count": [0, 4, 1], "confidence": [0.1, 0.5, 0.9], "accuracy": [0.0, 0.75, 1.0]}
    dots = next(c for c in plots.reliability(bins, "x").axes[0].collections if isinstance(c, PathCollection))
    np.testing.assert_allclose(dots.get_offsets(), [[50, 75], [90, 100]])
    assert dots.get_sizes()[0] > dots.get_sizes()[1]


def test_projection_keeps_every_point_with_its_class() -> None:
    labels = np.arange(40) % 2
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    dots = plots.projection(features, labels, CLASSES, "pca", "x").axes[0].collections[0]
    colors = [matplotlib.colors.to_hex(color) for color in dots.get_facecolors()]
    oracle = plots.project(features, "pca")
    placed = {tuple(point.round(9)): color for point, color in zip(dots.get_offsets().data, colors, strict=True)}
    expected = {tuple(p.round(9)): plots.CLASS_COLOURS[c] for p, c in zip(oracle, labels, strict=True)}
    assert placed == expected


def test_projection_is_sampled_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST_POINTS", 10)
    figure = plots.projection(np.eye(30, 4, dtype=np.float32), np.zeros(30, int), CLASSES, "pca", "x")
    assert len(figure.axes[0].collections[0].get_offsets()) == 10


def test_principal_components_oracle_sklearn() -> None:
    features = np.random.default_rng(0).normal(size=(40, 6)) * np.arange(1, 7)
    np.testing.assert_allclose(abs(plots.project(features, "pca")), abs(PCA(2).fit_transform(features)))


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (5, 1)])
def test_projection_of_little(shape: tuple[int, int]) -> None:
    points = plots.project(np.ones(shape, np.float32), "tsne" if shape[0] < 4 else "pca")
    np.testing.assert_allclose(points, np.zeros((shape[0], 2)), atol=1e-12)


def test_tsne_is_seeded_and_keeps_neighbors() -> None:
    labels = np.arange(40) % 2
    features = np.random.default_rng(0).normal(size=(40, 5)) + 20 * labels[:, None]
    points = plots.project(features, "tsne")
    np.testing.assert_array_equal(points, plots.project(features, "tsne"))
    distances = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(40)
    assert (labels[distances.argmin(1)] == labels).mean() > 0.95


def test_a_saved_plot_is_whole_and_the_same_every_time() -> None:
    standalone = plots.svg(example(), "a")
    assert standalone == plots.svg(example(), "a")
    assert ET.fromstring(plots.on_white(standalone)).attrib["style"] == "background: white"
    assert "angry" in standalone  # text stays text
    assert plots.pdf(example(), "a") == plots.pdf(example(), "a")
    assert b"CreationDate" not in plots.pdf(example(), "a")


def test_formats_do_not_disturb_each_other() -> None:
    figure = example()
    first = plots.svg(figure, "a")
    plots.pdf(figure, "a")
    assert plots.svg(figure, "a") == first


def test_an_inline_plot_scales_to_its_container() -> None:
    inline = plots.inline(plots.svg(example(), "a"))
    head = inline[: inline.index(">")]
    assert inline.startswith("<svg")
    assert "viewBox" in head
    assert not re.search(r"\b(width|height|xmlns)", head)
    assert "metadata" not in inline
    assert plots.INK not in inline
    ids = set(re.findall(r'id="([^"]+)"', inline))
    other = set(re.findall(r'id="([^"]+)"', plots.inline(plots.svg(example(), "b"))))
    assert ids & other == set(), "ids of two plots on a page must differ"


def test_drawing_leaves_matplotlibs_state_unchanged() -> None:
    before = dict(matplotlib.rcParams)
    example()
    plots.svg(example(), "a")
    assert dict(matplotlib.rcParams) == before
