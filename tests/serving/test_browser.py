"""The page in a real Chromium: with mouse, keyboard and microphone, wide and narrow. Its screenshots are the README's.

`AFFEKT_SCREENSHOTS=docs/images pytest tests/serving/test_browser.py` takes them. Chromium is the system's, or the one
that `AFFEKT_CHROMIUM` names.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas
import pytest
import soundfile

from affekt.recognition.models import BUNDLED
from affekt.recognition.recognizer import Recognizer

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra dev")
expect = playwright.expect
Page = Any
Server = Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
WIDE, NARROW = {"width": 1180, "height": 900}, {"width": 375, "height": 812}
PATIENCE_MS = 30_000
TOKEN = "correct-horse-battery"
DOWNLOADS = {"Table": "csv", "Praat": "textgrid", "Audacity labels": "audacity", "RTTM": "rttm"}
TALK = {"03a01Wa": "angry", "03a02Ta": "sad", "03a01Nc": "neutral", "03a02Fc": "happy", "03a04Wc": "angry"}
"""Recordings of EmoDB (CC0) that the screenshots show one after the other, and what their actors played."""


@pytest.fixture(scope="module")
def microphone(recording: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Chromium's make-believe microphone hears."""
    path = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    path.write_bytes(recording(5.0, 48_000))
    return path


@pytest.fixture(scope="module")
def chromium(microphone: Path) -> Iterator[Any]:
    names = (os.environ.get("AFFEKT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, filter(None, names))), None)
    if path is None:
        pytest.skip("no Chromium: install Debian's package chromium, or set AFFEKT_CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=[*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(model: Path, run_server: Callable[..., Any]) -> Iterator[Server]:
    with run_server(model) as running:
        yield running


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Page]]:
    """`visit(url, viewport=WIDE, ...)`: a page that complains of nothing and asks nobody else."""
    faults: list[str] = []
    contexts = []

    def open_page(url: str, viewport: Mapping[str, int] = WIDE, expected: str = "^$", **options: Any) -> Page:
        def note(message: str) -> None:
            if not re.search(expected, message):
                faults.append(message)

        context = chromium.new_context(viewport=viewport, accept_downloads=True, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and note(message.text))
        page.on("pageerror", lambda error: note(str(error)))
        page.on("dialog", lambda dialog: note(f"dialog: {dialog.message}"))
        page.on("request", lambda request: request.url.startswith((url, "blob:", "data:")) or note(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="module")
def speech_file(recording: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stretches of speech with a pause between them."""
    path = tmp_path_factory.mktemp("speech") / "two parts.wav"
    path.write_bytes(recording(6.0))
    samples, rate = soundfile.read(path)
    soundfile.write(path, np.concatenate([samples, np.zeros(2 * rate), samples[: 3 * rate]]), rate)
    return path


def upload(page: Page, path: Path | dict[str, Any]) -> None:
    name = path["name"] if isinstance(path, dict) else path.name
    page.set_input_files("#file", path)
    expect(page.locator("#subject")).to_contain_text(name, timeout=PATIENCE_MS)


def position(page: Page) -> float:
    return float(page.get_attribute("#plot", "aria-valuenow"))


def asked(server: Server, path: Path, **options: str) -> httpx.Response:
    """The API's own answer."""
    files = {"file": (path.name, path.read_bytes())}
    return httpx.post(f"{server.url}/v1/timeline", params=options, files=files, timeout=60)


def test_an_upload_shows_labels_bands_and_segments(
    visit: Callable[..., Page], server: Server, speech_file: Path, model: Path
) -> None:
    page = visit(server.url)
    upload(page, speech_file)
    timeline = asked(server, speech_file).json()
    shown = [line.replace("\n", " ") for line in page.locator("#segments li").all_inner_texts()]
    assert len(shown) == len(timeline["segments"]) >= 2
    for text, segment in zip(shown, timeline["segments"], strict=True):
        assert segment["label"] in text
        assert f"{100 * segment['confidence']:.0f} %" in text
        assert ("unsure" in text) is segment["unsure"]
    assert page.locator("#strip i").count() == len(timeline["segments"])
    bands = [path.get_attribute("d") for path in page.locator("#bands path").all()]
    assert len(bands) == len(timeline["labels"])
    assert all(band.startswith("M") and band.endswith("Z") for band in bands)
    assert page.locator("#shares tr").count() == 4
    assert re.match(r"M0,50L.+Z$", page.locator(".outline").first.get_attribute("d"))


def test_values_follow_the_position(visit: Callable[..., Page], server: Server, speech_file: Path) -> None:
    page = visit(server.url)
    upload(page, speech_file)
    timeline = asked(server, speech_file).json()
    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert position(page) == 2
    centers = [(window["start_seconds"] + window["end_seconds"]) / 2 for window in timeline["windows"]]
    nearest = timeline["windows"][int(np.abs(np.array(centers) - 2).argmin())]
    expected = [f"{round(100 * nearest['probabilities'][label])} %" for label in timeline["labels"]]
    assert page.locator("#shares td:last-child").all_inner_texts() == expected
    (there,) = [
        number
        for number, segment in enumerate(timeline["segments"], start=1)
        if segment["start_seconds"] <= 2 < segment["end_seconds"]
    ]
    assert page.get_attribute(f"#segments li:nth-child({there}) button", "aria-current") == "true"
    assert page.locator("#segments button[aria-current=true]").count() == 1
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.locator("#shares td:last-child").all_inner_texts() == ["–"] * 4  # the pause, at 7 s
    assert page.inner_text("#now") == "no speech"


def test_downloads_are_the_apis_files(visit: Callable[..., Page], server: Server, speech_file: Path) -> None:
    page = visit(server.url)
    upload(page, speech_file)
    for title, name in DOWNLOADS.items():
        with page.expect_download() as started:
            page.click(f"#downloads a:has-text('{title}')")
        assert Path(started.value.suggested_filename).stem == "two parts"
        assert started.value.path().read_text() == asked(server, speech_file, format=name).text
    with page.expect_download() as started:
        page.click("#downloads a:has-text('JSON')")
    assert json.loads(started.value.path().read_text())["windows"] == asked(server, speech_file).json()["windows"]


def test_the_page_works_by_keyboard(visit: Callable[..., Page], server: Server, speech_file: Path) -> None:
    page = visit(server.url)
    page.on("filechooser", lambda chooser: chooser.set_files(speech_file))  # before the key: it takes time to arm
    expect(page.locator("#limits")).to_contain_text("64 MB")
    press_until(page, "Tab", "#file")
    assert page.locator("label[for=file]").evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("#headline")).to_be_focused(timeout=PATIENCE_MS)
    press_until(page, "Tab", "#plot")
    assert page.locator("#plot").evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    for key, where in (("End", 11), ("Home", 0), ("PageUp", 5), ("ArrowLeft", 4)):
        page.keyboard.press(key)
        assert position(page) == where
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    expect(page.locator("#plot")).not_to_have_attribute("aria-valuenow", "4.0")
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
    press_until(page, "Tab", "#segments li:first-child button")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#segments li:nth-child(2) button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#segments li:nth-child(2) button")).to_have_attribute("aria-current", "true")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    press_until(page, "Tab", "#downloads li:last-child a")


def press_until(page: Page, key: str, target: str, most: int = 40) -> None:
    for _ in range(most):
        page.keyboard.press(key)
        if page.locator(target).evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"{target} is not reached by {key}")


def test_a_click_on_the_picture_and_on_a_segment_move_the_playhead(
    visit: Callable[..., Page], server: Server, speech_file: Path
) -> None:
    page = visit(server.url)
    upload(page, speech_file)
    box = page.locator("#plot").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    assert position(page) == pytest.approx(5.5, abs=0.1)
    last = asked(server, speech_file).json()["segments"][-1]
    page.locator("#segments li:last-child button").click()
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play", timeout=PATIENCE_MS)  # it stops at its end
    assert position(page) == pytest.approx(last["end_seconds"], abs=0.3)


def test_the_microphone(visit: Callable[..., Page], server: Server) -> None:
    page = visit(server.url, permissions=["microphone"])
    page.click("#record")
    expect(page.locator("#live-label")).to_contain_text("%", timeout=PATIENCE_MS)
    expect(page.locator("#live-time")).to_have_text(re.compile("0:0[2-9]"), timeout=PATIENCE_MS)
    page.click("#record")
    expect(page.locator("#subject")).to_contain_text("recording.wav", timeout=PATIENCE_MS)
    assert page.locator("#segments li").count() >= 1
    assert not page.locator("#live").is_visible()


def test_a_phone(visit: Callable[..., Page], server: Server, speech_file: Path) -> None:
    page = visit(server.url, NARROW, has_touch=True, is_mobile=True)
    upload(page, speech_file)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    small = page.locator("button:visible, a:visible, label:visible").evaluate_all(
        "nodes => nodes.filter(node => node.getBoundingClientRect().height < 24).map(node => node.outerHTML)"
    )
    assert [node for node in small if "skip" not in node] == []
    page.locator("#plot").tap(position={"x": 100, "y": 30})
    assert position(page) > 2


def test_a_failed_upload_clears_the_answer_to_the_file_before(
    visit: Callable[..., Page], server: Server, speech_file: Path
) -> None:
    page = visit(server.url, expected="status of 422")
    upload(page, speech_file)
    assert page.locator("#result").is_visible()
    page.set_input_files("#file", {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"not audio"})
    expect(page.get_by_role("alert")).to_contain_text("no audio that can be decoded", timeout=PATIENCE_MS)
    assert not page.locator("#result").is_visible()
    upload(page, speech_file)
    assert not page.get_by_role("alert").is_visible()


def test_the_overall_answer_of_the_api_is_seen_first(
    visit: Callable[..., Page], server: Server, recording: Callable[..., bytes], tmp_path: Path
) -> None:
    """Also where the recording begins with silence."""
    samples, rate = soundfile.read(io.BytesIO(recording(3.0)))
    path = tmp_path / "late.wav"
    soundfile.write(path, np.concatenate([np.zeros(2 * rate), samples, np.zeros(4 * rate)]), rate)
    page = visit(server.url)
    upload(page, path)
    overall = asked(server, path).json()["overall"]
    assert overall == httpx.post(f"{server.url}/v1/predict", content=path.read_bytes()).json() | {"source": "late.wav"}
    shown = f"overall: {overall['label']} {100 * overall['confidence']:.0f} %"
    assert page.inner_text("#now").startswith(shown)
    assert overall["label"] in page.inner_text("#headline")
    assert not page.locator("#shares td:last-child").first.is_visible()
    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#now") == "no speech"  # at 1 s
    assert page.locator("#shares td:last-child").first.is_visible()


def test_several_files_at_a_time(
    visit: Callable[..., Page], server: Server, speech_file: Path, recording: Callable[..., bytes], tmp_path: Path
) -> None:
    other, broken = tmp_path / "=other, one.wav", tmp_path / "broken.wav"
    other.write_bytes(recording(1.0, seed=3))
    broken.write_bytes(b"not audio")
    page = visit(server.url, expected="status of 422")
    page.set_input_files("#file", [speech_file, broken, other])
    expect(page.locator("#files-title")).to_have_text("Files (3 of 3)", timeout=PATIENCE_MS)
    rows = page.locator("#files-rows tr")
    assert rows.count() == 3
    assert "no audio that can be decoded" in rows.nth(1).inner_text()
    assert speech_file.name in page.inner_text("#subject")  # the first answer is shown
    rows.nth(2).locator("button").click()
    assert other.name in page.inner_text("#subject")
    assert rows.nth(2).get_attribute("aria-current") == "true"
    with page.expect_download() as started:
        page.click("#files-table")
    table = pandas.read_csv(started.value.path())
    expected = [asked(server, path).json()["overall"] for path in (speech_file, other)]
    assert table["source"].to_list() == [speech_file.name, "broken.wav", f"'{other.name}"]  # not a formula
    assert table["label"].dropna().to_list() == [answer["label"] for answer in expected]
    assert table["error"].notna().to_list() == [False, True, False]
    upload(page, speech_file)
    assert not page.locator("#files").is_visible()


def test_an_answer_is_adapted_to_this_voice_when_calm(
    visit: Callable[..., Page],
    run_server: Callable[..., Any],
    server: Server,
    adaptable: Path,
    speech_file: Path,
    recording: Callable[..., bytes],
) -> None:
    assert not visit(server.url).locator("#baseline").is_visible()  # a model without adaptation
    calm = {"name": "calm.wav", "mimeType": "audio/wav", "buffer": recording(2.0, seed=1)}
    with run_server(adaptable) as adapting:
        page = visit(adapting.url)
        page.set_input_files("#baseline-file", [calm])
        expect(page.locator("#baseline-names")).to_have_text("calm.wav")
        upload(page, speech_file)
        expect(page.locator("#remarks")).to_contain_text("Adapted to the speaker: calm voice")
        adapted = Recognizer.load(adaptable).adapted(baseline=[calm["buffer"]]).predict(speech_file)
        shown = page.locator("#shares td:nth-child(2)").all_inner_texts()
        assert [text.strip() for text in shown] == [f"{100 * p:.0f} %" for p in adapted.probabilities.values()]
        page.click("#baseline-clear")
        upload(page, {"name": "again.wav", "mimeType": "audio/wav", "buffer": speech_file.read_bytes()})
        assert not page.locator("#remarks").is_visible()


def test_a_computed_voice_can_be_tried(visit: Callable[..., Page], server: Server) -> None:
    page = visit(server.url)
    assert "synthetic" in page.inner_text(".examples")
    page.click("[data-example]:has-text('changes')")
    expect(page.locator("#subject")).to_contain_text("example-changing-voice.flac", timeout=PATIENCE_MS)
    assert page.locator("#segments li").count() >= 2


def test_the_card_is_in_words_and_its_accuracy_beside_the_answer(
    visit: Callable[..., Page], run_server: Callable[..., Any], server: Server, speech_file: Path
) -> None:
    page = visit(server.url)  # a model whose card states no measures
    upload(page, speech_file)
    assert page.inner_text("#accuracy") == "The model card states no accuracy on unseen corpora."
    with page.expect_download() as started:
        page.click("#card-file")
    assert json.loads(started.value.path().read_text()) == httpx.get(f"{server.url}/v1/model").json()["card"]
    card = {
        "labels": ["a", "b", "c", "d"],
        "measures": {"unseen": {"corpora": {"one": {"ua": 0.5}, "two": {"ua": 0.7}}}},
    }
    script = f"import('/page/card.js').then(module => module.accuracy({json.dumps(card)}))"
    expected = (
        "on 2 corpora that it was not trained on it recognizes 60 % of 4 emotions (50 % to 70 %; guessing: 25 %)."
    )
    assert page.evaluate(script).endswith(expected)
    card["measures"] = {
        "unseen": {"one": {"ua": 0.5}, "two": {"ua": 0.7}},
        "unseen_mean": {"sure_right": 0.8, "coverage": 0.5},
    }
    script = f"import('/page/card.js').then(module => module.accuracy({json.dumps(card)}))"
    sure = " Of the answers that are not marked unsure (50 % of all), 80 % are right."
    assert page.evaluate(script).endswith(expected + sure)
    if BUNDLED.exists():
        with run_server(BUNDLED) as bundled:
            page = visit(bundled.url)
            expect(page.locator("#accuracy")).to_contain_text("not trained on")
            assert 5 <= page.locator("#card dt").count() <= 12


def test_a_format_that_the_server_lacks_is_decoded_by_the_browser(
    visit: Callable[..., Page], server: Server, speech_file: Path
) -> None:
    """The server is played by the test: it refuses the first upload as one without the extra `containers` does."""
    page = visit(server.url, expected="status of 422")
    uploads: list[bytes] = []
    refusal = {"what": "recording", "got": "an MP4 file", "remedy": "pip install 'affekt[containers]'", "also": []}

    def play(route: Any) -> None:
        uploads.append(route.request.post_data_buffer)
        if len(uploads) == 1:
            route.fulfill(status=422, json={"expected": "", **refusal})
        else:
            route.continue_()

    page.route("**/v1/timeline*", play)
    upload(page, speech_file)
    assert len(uploads) == 2
    assert b"RIFF" in uploads[1]
    assert page.locator("#segments li").count() >= 2


def test_a_file_too_large_is_not_sent(
    visit: Callable[..., Page], model: Path, run_server: Callable[..., Any], speech_file: Path
) -> None:
    with run_server(model, "--limits.body-bytes", "100000", token=TOKEN) as server:
        page = visit(server.url, expected="status of 401")
        for token in ("wrong", TOKEN):  # and the server asks for a token, until it is the right one
            expect(page.locator("#token-form")).to_be_visible()
            page.fill("#token", token)
            page.press("#token", "Enter")
        expect(page.locator("#card dt").first).to_be_visible()
        page.set_input_files("#file", speech_file)
        expect(page.get_by_role("alert")).to_contain_text("at most 0.1 MB")
        assert (
            'path="/v1/timeline"'
            not in httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text
        )


def test_file_names_are_shown_as_text(visit: Callable[..., Page], server: Server, speech_file: Path) -> None:
    page = visit(server.url)
    name = "<img src=x onerror=alert(1)>.wav"
    upload(page, {"name": name, "mimeType": "audio/wav", "buffer": speech_file.read_bytes()})
    assert name in page.inner_text("#subject")
    assert page.locator("#result img").count() == 0


def test_a_recording_can_be_dropped(
    visit: Callable[..., Page], server: Server, recording: Callable[..., bytes]
) -> None:
    page = visit(server.url)
    transfer = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.wav"));
            return transfer;
        }""",
        list(recording(0.5, 8_000)),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#subject")).to_contain_text("dropped.wav", timeout=PATIENCE_MS)


def test_dark_and_light(visit: Callable[..., Page], server: Server) -> None:
    page = visit(server.url, color_scheme="dark")
    color = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(color) == "rgb(18, 20, 25)"
    expect(page.locator("#theme")).to_have_attribute("aria-pressed", "true")
    page.click("#theme")
    assert page.evaluate(color) == "rgb(247, 246, 242)"
    page.reload()
    assert page.evaluate(color) == "rgb(247, 246, 242)"


def test_real_speech_gets_the_right_labels(
    visit: Callable[..., Page], run_server: Callable[..., Any], corpora: Path, tmp_path: Path, model: Path
) -> None:
    """The labels are the library's, and with the bundled model the ones that the actors played."""
    chosen = BUNDLED if BUNDLED.exists() else model
    talk = tmp_path / "conversation.wav"
    parts = [soundfile.read(corpora / "emodb" / "wav" / f"{name}.wav")[0] for name in TALK]
    soundfile.write(talk, np.concatenate([np.concatenate([part, np.zeros(8_000)]) for part in parts]), 16_000)
    recognizer = Recognizer.load(chosen)
    with run_server(chosen) as server:
        page = visit(server.url, device_scale_factor=2)
        for name, played in TALK.items():
            path = corpora / "emodb" / "wav" / f"{name}.wav"
            upload(page, path)
            (segment,) = recognizer.timeline(path).segments
            assert segment.label in page.locator("#segments li").inner_text()
            if chosen == BUNDLED:
                assert segment.label == played
        upload(page, talk)
        take_screenshots(page, visit, server, talk)


def take_screenshots(page: Page, visit: Callable[..., Page], server: Server, talk: Path) -> None:
    if "AFFEKT_SCREENSHOTS" not in os.environ:
        return
    folder = Path(os.environ["AFFEKT_SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    looks = {"page": (WIDE, "light"), "page-dark": (WIDE, "dark"), "page-phone": (NARROW, "light")}
    for name, (viewport, scheme) in looks.items():
        page = visit(server.url, viewport, color_scheme=scheme, device_scale_factor=1.5)
        upload(page, talk)
        page.focus("#plot")
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        page.evaluate("document.activeElement.blur()")
        page.evaluate("scrollTo(0, 0)")
        box = page.locator("#result").bounding_box()
        clip = {"x": 0, "y": 0, "width": viewport["width"], "height": box["y"] + box["height"] + 24}
        page.screenshot(path=folder / f"{name}.png", clip=clip, full_page=True)
