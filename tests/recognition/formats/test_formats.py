"""Exports of timelines, read back with the libraries that people use."""

from __future__ import annotations

import csv
import io
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image

from affekt.errors import ConfigError
from affekt.recognition import formats
from affekt.recognition.formats import FORMATS, picture, tables
from affekt.recognition.prediction import Prediction
from affekt.recognition.timeline import Timeline, TimelineConfig

LABELS = ("angry", 'so "so"', "happy <3")


SILENT = Prediction.no_speech(LABELS, "quiet.wav", 0.0, 2.0)


def segment(label: str, start: float, end: float, confidence: float) -> Prediction:
    rest = (1 - confidence) / (len(LABELS) - 1)
    values = {name: confidence if name == label else rest for name in LABELS}
    return Prediction(label, confidence, values, confidence < 0.5, "ä call, take 1.wav", start, end)


@pytest.fixture
def timeline() -> Timeline:
    """Ten seconds: speech from 1 to 5 (a change at 3) and from 7.5 to the end."""
    segments = (
        segment("angry", 1.0, 3.0000004, 0.8),
        segment('so "so"', 3.0000004, 5.0, 0.4),
        segment("happy <3", 7.5, 10.0, 0.9),
    )
    starts = np.array([0.0, 1, 2, 3, 7, 8])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 6).astype(np.float32)
    envelope = np.abs(np.random.default_rng(0).normal(size=200)).astype(np.float32)
    config = TimelineConfig(2.0, 1.0)
    return Timeline("ä call, take 1.wav", 10.0, LABELS, config, starts, probabilities, segments, envelope, segments[0])


@pytest.fixture
def silent() -> Timeline:
    nothing = np.empty((0, 3), np.float32)
    return Timeline(
        "quiet.wav", 2.0, LABELS, TimelineConfig(2.0, 1.0), nothing[:, 0], nothing, (), np.zeros(40, "f"), SILENT
    )


def spans(timeline: Timeline) -> list[tuple[float, float]]:
    return [(part.start_seconds, part.end_seconds) for part in timeline.segments]


def test_textgrid_is_read_by_praatio(timeline: Timeline, tmp_path: Path) -> None:
    textgrid = pytest.importorskip("praatio.textgrid")
    formats.write(timeline, tmp_path / "a.TextGrid")
    grid = textgrid.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)
    assert (grid.tierNames, grid.minTimestamp, grid.maxTimestamp) == (("emotion", "confidence"), 0, 10)
    emotions = [tuple(entry) for entry in grid.getTier("emotion").entries]
    assert [label for _, _, label in emotions] == ["", "angry", 'so "so" ?', "", "happy <3"]
    assert [entry[:2] for entry in emotions] == [(0, 1), (1, 3), (3, 5), (5, 7.5), (7.5, 10)]
    assert [label for _, _, label in grid.getTier("confidence").entries] == ["", "0.80", "0.40", "", "0.90"]


def test_textgrid_of_silence(silent: Timeline, tmp_path: Path) -> None:
    textgrid = pytest.importorskip("praatio.textgrid")
    formats.write(silent, tmp_path / "a.TextGrid")
    grid = textgrid.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)
    assert [tuple(entry) for entry in grid.getTier("emotion").entries] == [(0, 2, "")]


def test_rttm_is_read_by_pyannote(timeline: Timeline, tmp_path: Path) -> None:
    util = pytest.importorskip("pyannote.database.util")
    formats.write(timeline, tmp_path / "a.rttm")
    (name, annotation), *rest = util.load_rttm(tmp_path / "a.rttm").items()
    assert (name, rest) == ("ä_call,_take_1", [])
    found = [(turn.start, turn.end, label) for turn, _, label in annotation.itertracks(yield_label=True)]
    assert [label for _, _, label in found] == ["angry", 'so_"so"_?', "happy_<3"]
    np.testing.assert_allclose([turn[:2] for turn in found], spans(timeline), atol=0.001)


def test_audacity_labels(timeline: Timeline) -> None:
    rows = [line.split("\t") for line in str(FORMATS["audacity"].render(timeline)).splitlines()]
    assert [row[2] for row in rows] == ["angry 0.80", 'so "so" 0.40 unsure', "happy <3 0.90"]
    np.testing.assert_allclose([[float(a), float(b)] for a, b, _ in rows], spans(timeline), atol=1e-6)


def test_csv_is_read_by_the_standard_library(timeline: Timeline) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(timeline))))
    assert [row["label"] for row in rows] == list(LABELS)
    assert rows[1]["source"] == "ä call, take 1.wav"
    assert rows[1]["unsure"] == "True"
    assert [float(rows[0][f"prob.{label}"]) for label in LABELS] == pytest.approx([0.8, 0.1, 0.1])


def test_json_holds_everything(timeline: Timeline) -> None:
    assert json.loads(tables.to_json(timeline)) == json.loads(json.dumps(timeline.to_dict()))
    assert [window["end_seconds"] for window in json.loads(tables.to_json(timeline))["windows"]] == [2, 3, 4, 5, 9, 10]


def polygons(svg: str) -> list[Any]:
    return ET.fromstring(svg).findall("{http://www.w3.org/2000/svg}polygon")


def test_html_stands_alone(timeline: Timeline) -> None:
    page = picture.to_html(timeline)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "happy &lt;3" in page
    assert "<3" not in page
    assert page.count("<tr") == 1 + len(timeline.segments)


def test_bands_fill_the_height_and_leave_gaps(timeline: Timeline) -> None:
    """Two runs of windows, three classes each; at each time the bands reach from the bottom to the top."""
    bands = polygons(picture.to_svg(timeline))[1:]
    assert len(bands) == 2 * len(LABELS)
    points = [[tuple(map(float, point.split(","))) for point in band.get("points", "").split()] for band in bands]
    heights = [abs(points[index][1][1] - points[index][-2][1]) for index in range(3)]
    share = picture.BANDS_HEIGHT * timeline.probabilities[0]
    np.testing.assert_allclose(heights, share, atol=0.11)
    first_run, second_run = points[0], points[3]
    assert max(x for x, _ in first_run) < min(x for x, _ in second_run) - 50


def test_long_recordings_are_thinned() -> None:
    windows = 100_000
    probabilities = np.full((windows, 3), 1 / 3, np.float32)
    starts = np.arange(windows, dtype=np.float64)
    config = TimelineConfig(2.0, 1.0)
    peaks = np.ones(20 * windows, np.float32)
    timeline = Timeline("day.wav", float(windows), LABELS, config, starts, probabilities, (), peaks, SILENT)
    assert len(picture.to_svg(timeline)) < 400_000
    seconds, thinned = picture.envelope(timeline)
    assert len(seconds) == len(thinned) <= picture.COLUMNS
    assert seconds[-1] == pytest.approx(windows, rel=0.01)


def test_png_is_a_picture_of_both(timeline: Timeline, silent: Timeline, tmp_path: Path) -> None:
    formats.write(timeline, tmp_path / "a.png")
    pixels = image.imread(tmp_path / "a.png")
    assert pixels.shape[0] > 300
    color = np.array([int(picture.COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    assert (np.abs(pixels[..., :3] - color).max(-1) < 0.01).sum() > 1_000
    formats.write(silent, tmp_path / "b.png")
    assert not (np.abs(image.imread(tmp_path / "b.png")[..., :3] - color).max(-1) < 0.01).any()


@pytest.mark.parametrize("name", FORMATS)
def test_silence_can_be_written(silent: Timeline, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a{FORMATS[name].suffix}"
    formats.write(silent, path)
    assert path.read_bytes() == (lambda text: text if isinstance(text, bytes) else text.encode())(
        FORMATS[name].render(silent)
    )
    assert formats.of_suffix(path) == name


def test_unknown_suffixes(timeline: Timeline, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got '\.doc', expected one of \.csv, \.json, \.txt, \.TextGrid"):
        formats.write(timeline, tmp_path / "a.doc")
    assert not list(tmp_path.iterdir())


def test_ticks_are_few_and_round() -> None:
    for seconds in (0.5, 9, 100, 5_000, 36_000, 900_000):
        step = picture._tick_seconds(seconds)
        assert 3 <= math.ceil(seconds / step) <= 13


def test_rttm_and_textgrid_mark_unsure_alike(timeline: Timeline) -> None:
    rttm = [line.split()[7] for line in formats.FORMATS["rttm"].render(timeline).splitlines()]  # type: ignore[union-attr]
    grid = str(formats.FORMATS["textgrid"].render(timeline))
    assert [label.endswith("_?") for label in rttm] == [part.unsure for part in timeline.segments]
    assert [f'{part.label} ?"'.replace('"so"', '""so""') in grid for part in timeline.segments] == [False, True, False]


def test_subtitles(timeline: Timeline) -> None:
    srt, vtt = (str(formats.FORMATS[name].render(timeline)) for name in ("srt", "vtt"))
    assert srt.split("\n\n")[:2] == [
        "1\n00:00:01,000 --> 00:00:03,000\nangry 80%",
        '2\n00:00:03,000 --> 00:00:05,000\nso "so" 40% (unsure)',
    ]
    assert vtt.startswith("WEBVTT\n\n00:00:01.000 --> 00:00:03.000\nangry 80%\n")
    assert vtt.endswith("00:00:07.500 --> 00:00:10.000\nhappy (3 90%\n")


def test_times_of_subtitles() -> None:
    from affekt.recognition.formats.subtitles import _clock

    assert [_clock(seconds, ".") for seconds in (0, 59.9996, 3_599.5, 36_000)] == [
        "00:00:00.000",
        "00:01:00.000",
        "00:59:59.500",
        "10:00:00.000",
    ]
