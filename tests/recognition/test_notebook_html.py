"""Predictions, timelines and recognizers in notebooks: HTML that needs nothing else, and short reprs."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affekt.recognition import notebook_html
from affekt.recognition.prediction import Prediction
from affekt.recognition.timeline import Timeline, TimelineConfig

LABELS = ("angry", "sad")


def prediction(confidence: float = 0.8, source: str = "call.wav", start: float = 0.0, end: float = 2.0) -> Prediction:
    return Prediction.of(LABELS, [confidence, 1 - confidence], 0.6, source, start, end)


def timeline(source: str = "call.wav", seconds: float = 4.0) -> Timeline:
    config = TimelineConfig(window_seconds=2.0, hop_seconds=1.0)
    return Timeline(
        source=source,
        duration_seconds=seconds,
        labels=LABELS,
        config=config,
        starts_seconds=np.array([0.0, 1.0, 2.0]),
        probabilities=np.array([[0.8, 0.2], [0.5, 0.5], [0.2, 0.8]], np.float32),
        segments=(prediction(0.8, source), prediction(0.3, source, 2.0, seconds)),
        envelope=np.linspace(0, 1, 80, dtype=np.float32),
        overall=prediction(0.55, source, 0.0, seconds),
    )


def check_closed(text: str) -> None:
    """Every element is closed, so that the cell cannot swallow what follows it."""

    class Checker(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.stack: list[str] = []

        def handle_starttag(self, tag: str, attributes: object) -> None:
            if tag not in ("line", "rect", "polygon", "br"):
                self.stack.append(tag)

        def handle_startendtag(self, tag: str, attributes: object) -> None: ...

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("line", "rect", "polygon", "br"):
                assert self.stack.pop() == tag

    checker = Checker()
    checker.feed(text)
    assert checker.stack == []


def test_a_prediction_shows_its_answer_and_every_class() -> None:
    text = prediction(0.8)._repr_html_()
    check_closed(text)
    assert "<b>angry 80 %</b>" in text
    assert "unsure" not in text
    for label, value in (("angry", "0.80"), ("sad", "0.20")):
        assert re.search(rf">{label}</td>.*?>{value}</td>", text)


def test_an_unsure_prediction_states_its_reason() -> None:
    assert "unsure: low confidence" in prediction(0.55)._repr_html_()
    other = replace(prediction(0.9), unsure=True, reason="unlike the training speech")
    assert "unsure: unlike the training speech" in other._repr_html_()
    silent = Prediction.no_speech(LABELS, "call.wav", 0.0, 1.0)
    assert "<b>no speech</b>" in silent._repr_html_()
    assert "unsure" not in silent._repr_html_()


def test_a_timeline_shows_waveform_bands_and_segments() -> None:
    text = timeline()._repr_html_()
    check_closed(text)
    assert text.count("<polygon") == 1 + len(LABELS)  # the waveform, and a band each
    assert "<title>waveform</title>" in text
    assert len(re.findall(r"<rect[^>]*><title>", text)) == 2  # segments
    assert "angry 55 %" in text
    assert "No player" in text  # there is no such file
    assert "<script" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def embedded(text: str) -> tuple[str, bytes]:
    found = re.search(r'<audio[^>]*src="data:([\w/.+-]+);base64,([^"]+)"', text)
    assert found, text[-500:]
    return found[1], base64.b64decode(found[2])


def test_a_recording_that_is_a_file_can_be_played(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.sin(np.arange(64_000) / 5) / 2, 16_000)
    kind, content = embedded(timeline(str(path))._repr_html_())
    assert kind.endswith("wav")
    assert content == path.read_bytes()


def test_a_format_that_browsers_do_not_play_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "tone.aiff"
    soundfile.write(path, np.sin(np.arange(88_200) / 5) / 2, 22_050)
    kind, content = embedded(timeline(str(path))._repr_html_())
    samples, rate = soundfile.read(io.BytesIO(content))
    assert (kind, rate, len(samples)) == ("audio/wav", 16_000, 64_000)


def test_a_long_recording_is_not_embedded(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    assert "No player" in timeline(str(path), seconds=notebook_html.MOST_SECONDS + 1)._repr_html_()


def test_a_damaged_file_has_no_player_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "tone.aiff"
    path.write_bytes(b"not audio")
    assert "No player" in timeline(str(path))._repr_html_()


@pytest.mark.parametrize("name", ['<script>alert("x")</script>.wav', "a&b.wav"])
def test_names_are_only_ever_text(name: str) -> None:
    for text in (prediction(source=name)._repr_html_(), timeline(name)._repr_html_()):
        check_closed(text)
        assert "<script" not in text
        assert "a&b" not in text


def test_reprs_fit_a_line() -> None:
    assert repr(prediction()) == "<Prediction 'call.wav', 0.0-2.0 s: 'angry', 0.80>"
    assert repr(prediction(0.55)) == "<Prediction 'call.wav', 0.0-2.0 s: 'angry', 0.55, unsure: low confidence>"
    assert repr(timeline()) == "<Timeline 'call.wav', 4.0 s, 2 segments, overall angry 0.55>"
