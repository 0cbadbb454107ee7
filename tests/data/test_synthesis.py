"""The embedded corpus: its voice measured as a phonetician would, its emotions against the literature, its files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter

from affekt.data.corpora import prepare, synthetic
from affekt.data.labels import LABEL_SETS
from affekt.data.synthesis import speakers, utterance, voice
from affekt.data.synthesis.phones import PAUSE, PHONES, TEXTS, VOWELS, parse
from affekt.data.synthesis.prosody import make_glottis, make_tracks, smooth, time_sentence
from affekt.data.synthesis.speakers import EMOTIONS, Delivery, deliver, make_speaker
from affekt.data.synthesis.voice import FRAME_SAMPLES, NASAL_POLE_HZ, SAMPLE_RATE_HZ, Glottis, Tracks, speak
from affekt.errors import ConfigError, CorpusError


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([7, *seed])


MODAL = Glottis()


def sustained(formants_hz, f0_hz, glottis=MODAL, tract_scale=1.0, seconds=0.6, **sources) -> np.ndarray:
    """A steady sound."""
    frames = round(seconds / voice.FRAME_SECONDS)
    levels = {"voicing": 1.0, "aspiration": 0.0, "frication": 0.0, "noise_hz": 4_000.0, "noise_bandwidth_hz": 3_000.0}
    tracks = Tracks(
        f0_hz=np.full(frames, float(f0_hz)),
        formants_hz=np.tile(np.array(formants_hz, float) * tract_scale, (frames, 1)),
        nasal_zero_hz=np.full(frames, NASAL_POLE_HZ),
        **{name: np.full(frames, value) for name, value in {**levels, **sources}.items()},
    )
    return speak(tracks, glottis, rng(), tract_scale).astype(np.float64)


def autocorrelation(signal: np.ndarray, lags: int) -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 2 * len(signal))) ** 2
    return np.fft.irfft(spectrum)[:lags]


def measured_f0_hz(signal: np.ndarray, low_hz: float = 60, high_hz: float = 500) -> float:
    """Parabolic peak of the autocorrelation; of the peaks nearly as high as the highest, the first."""
    first, last = int(SAMPLE_RATE_HZ / high_hz), int(SAMPLE_RATE_HZ / low_hz)
    r = autocorrelation(signal, last + 2)
    inner = np.arange(first, last)
    peaks = inner[(r[inner] > r[inner - 1]) & (r[inner] >= r[inner + 1])]
    lag = next(lag for lag in peaks if r[lag] > 0.9 * r[peaks].max())
    left, middle, right = r[lag - 1 : lag + 2]
    return SAMPLE_RATE_HZ / (lag + 0.5 * (left - right) / (left - 2 * middle + right))


def measured_formants_hz(signal: np.ndarray, order: int = 18) -> np.ndarray:
    """Narrow poles of linear prediction, in ascending order."""
    r = autocorrelation(np.diff(signal), order + 1)
    r[0] *= 1 + 1e-6
    poles = np.roots(np.concatenate([[1.0], -solve_toeplitz(r[:-1], r[1:])]))
    poles = poles[(poles.imag > 0) & (-np.log(np.abs(poles)) * SAMPLE_RATE_HZ / np.pi < 500)]
    return np.sort(np.angle(poles)) * SAMPLE_RATE_HZ / (2 * np.pi)


def band_db(signal: np.ndarray, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) ** 2
    frequency = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE_HZ)
    return 10 * np.log10(spectrum[(frequency >= low_hz) & (frequency < high_hz)].sum())


class TestVoice:
    @pytest.mark.parametrize("f0_hz", [75.0, 120.0, 210.0, 333.0])
    @pytest.mark.parametrize("roughness", [0.0, 0.01])
    def test_pitch_is_what_was_asked(self, f0_hz, roughness):
        sound = sustained((500, 1_500, 2_500, 3_500), f0_hz, Glottis(jitter=roughness, shimmer=4 * roughness))
        assert measured_f0_hz(sound) == pytest.approx(f0_hz, rel=0.03)

    @pytest.mark.parametrize("vowel", sorted(VOWELS))
    @pytest.mark.parametrize("tract_scale", [1.0, 1.16])
    def test_formants_are_the_targets(self, vowel, tract_scale):
        target = np.array(PHONES[vowel][0].formants_hz) * tract_scale
        sound = sustained(PHONES[vowel][0].formants_hz, 90.0, Glottis(tilt_db=2.0), tract_scale)
        np.testing.assert_allclose(measured_formants_hz(sound)[:3], target[:3], rtol=0.10)

    def test_moving_filter_at_rest_is_the_cascade_of_resonators(self):
        """Oracle: Klatt's difference equation y[t] = A x[t] + B y[t-1] + C y[t-2], one resonator after the other."""
        formants_hz = (500.0, 1_500.0, 2_500.0, 3_500.0)
        source = rng().standard_normal(4_000)
        expected, high = source, [4_500.0, 5_500.0, 6_500.0, 7_500.0]
        bandwidths_hz = [70.0, 90.0, 140.0, 200.0, *(0.06 * hz for hz in high)]
        for center_hz, bandwidth_hz in zip([*formants_hz, *high], bandwidths_hz, strict=True):
            c = -np.exp(-2 * np.pi * bandwidth_hz / 16_000)
            b = 2 * np.exp(-np.pi * bandwidth_hz / 16_000) * np.cos(2 * np.pi * center_hz / 16_000)
            expected = lfilter([1 - b - c], [1, -b, -c], expected)
        frames = len(source) // FRAME_SAMPLES
        response = voice.tract_response(np.tile(formants_hz, (frames, 1)), np.full(frames, NASAL_POLE_HZ), 1.0)
        actual = voice.overlap_add(voice.frame_spectra(source) * response)
        steady = slice(800, -FRAME_SAMPLES)  # the last frame has no successor to overlap with
        error = np.sqrt(np.mean((actual[steady] - expected[steady]) ** 2) / np.mean(expected[steady] ** 2))
        assert error < 0.002

    def test_nasal_zero_takes_out_its_frequency(self):
        frames = 10
        formants_hz = np.tile(PHONES["n"][0].formants_hz, (frames, 1))
        closed = voice.tract_response(formants_hz, np.full(frames, NASAL_POLE_HZ), 1.0)
        nasal = voice.tract_response(formants_hz, np.full(frames, 1_000.0), 1.0)
        ratio = np.abs(nasal[0] / closed[0])
        assert np.fft.rfftfreq(voice.FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)[ratio.argmin()] == 1_000.0

    def test_tilt_is_counted_at_3_khz(self):
        flat, tilted = (sustained((500, 1_500, 2_500, 3_500), 100.0, Glottis(tilt_db=tilt)) for tilt in (0.0, 20.0))
        loss_db = band_db(flat, 2_900, 3_100) - band_db(tilted, 2_900, 3_100)
        assert loss_db == pytest.approx(20.0, abs=1.0)

    def test_pressed_voice_has_a_weaker_first_harmonic_than_a_lax_one(self):
        """H1 - H2 grows with the open quotient (Klatt & Klatt 1990)."""
        sounds = [sustained((700, 1_500, 2_500, 3_500), 100.0, Glottis(open_quotient=oq)) for oq in (0.4, 0.6, 0.8)]
        h1_h2_db = [band_db(sound, 80, 120) - band_db(sound, 180, 220) for sound in sounds]
        assert h1_h2_db == sorted(h1_h2_db)
        assert h1_h2_db[-1] - h1_h2_db[0] > 6

    def test_pulses_are_as_strong_at_any_pitch(self):
        """Twice as many pulses a second are 3 dB; averaged over f0, as harmonics meet formants or miss them."""
        formants_hz = (500, 1_500, 2_500, 3_500)
        low, high = (
            20 * np.log10(np.mean([sustained(formants_hz, f0 * octave).std() for f0 in range(80, 120, 4)]))
            for octave in (1, 2)
        )
        assert high - low == pytest.approx(3.0, abs=1.5)

    @pytest.mark.parametrize("center_hz", [2_000.0, 3_200.0, 6_000.0])
    def test_frication_sounds_at_its_place_and_not_in_the_tract(self, center_hz):
        """Against the closed form of a resonance's power, 1 / (1 + (f / b - fc^2 / (b f))^2)."""
        vowel = PHONES["a"][0].formants_hz
        hiss = sustained(
            vowel, 100, seconds=4.0, voicing=0.0, frication=1.0, noise_hz=center_hz, noise_bandwidth_hz=800.0
        )
        edges_hz = np.arange(400.0, 7_600.0, 400.0)
        power = 10 ** (np.array([band_db(hiss, low, low + 400) for low in edges_hz]) / 10)
        frequency = edges_hz[:, None] + np.linspace(0, 400, 41)
        expected = (1 / (1 + ((frequency - center_hz**2 / frequency) / 800.0) ** 2)).mean(1)
        np.testing.assert_allclose(10 * np.log10(power / power.sum() * expected.sum() / expected), 0, atol=1.0)

    def test_jitter_varies_the_periods_by_its_standard_deviation(self):
        phase = voice.glottal_phase(np.full(160_000, 100.0), 0.02, rng())
        periods = np.diff(np.flatnonzero(np.diff(np.floor(phase))))
        assert 0.01 < periods.std() / periods.mean() < 0.025
        assert periods.mean() == pytest.approx(160, rel=0.01)


class TestProsody:
    def spoken(self, text: str, delivery: Delivery, rate: float = 1.0, number: int = 2):
        speaker = replace(make_speaker(number, 0), tract_scale=1.0)
        score = time_sentence(parse(text), rate, 1.0, rng())
        tracks = make_tracks(score, speaker, delivery, rng(1))
        return speaker, score, tracks, speak(tracks, make_glottis(delivery), rng(2)).astype(np.float64)

    def test_long_vowel_has_the_speakers_pitch_and_its_own_formants(self):
        speaker, _, tracks, sound = self.spoken("a", Delivery(pitch_range=-6.0, tilt_db=-7.0), rate=0.15)
        middle = sound[len(sound) // 3 : 2 * len(sound) // 3]
        assert measured_f0_hz(middle) == pytest.approx(speaker.f0_hz, rel=0.03)
        np.testing.assert_allclose(measured_formants_hz(middle)[:3], PHONES["a"][0].formants_hz[:3], rtol=0.10)
        assert len(tracks.f0_hz) * FRAME_SAMPLES == len(sound)

    def test_durations_are_the_inventorys(self):
        """Mean over many of one vowel between voiceless stops, measured in the waveform: 115 ms."""
        _, score, _, _ = self.spoken("pat" * 30, Delivery())
        frames = [(score.part_of_frame == part).sum() for part, p in enumerate(score.parts) if p.seconds == 0.115]
        assert np.mean(frames[:-1]) * 0.005 == pytest.approx(0.115, rel=0.05)
        _, _, _, sound = self.spoken("pap", Delivery(attack=2.0), rate=0.25)
        loud = np.abs(sound).reshape(-1, FRAME_SAMPLES).max(1) > 0.1 * np.abs(sound).max()
        assert loud.sum() * 0.005 == pytest.approx(4 * 1.4 * 0.115, rel=0.25)

    def test_twice_the_rate_is_half_the_time(self):
        slow, fast = (len(time_sentence(parse(TEXTS["s01"]), rate, 1.0, rng()).part_of_frame) for rate in (0.5, 1.0))
        assert (slow - 24) / (fast - 24) == pytest.approx(2.0, rel=0.03)  # 24 frames of silence around it stay

    def test_pauses_are_silent_and_stretch_alone(self):
        phones = parse(f"mama {PAUSE} mama")
        short, long = (time_sentence(phones, 1.0, scale, rng()) for scale in (1.0, 3.0))
        assert len(long.part_of_frame) - len(short.part_of_frame) == pytest.approx(2 * 0.13 / 0.005, rel=0.2)
        tracks = make_tracks(long, make_speaker(1, 0), Delivery(), rng())
        pause = next(index for index, part in enumerate(long.parts[1:-1], 1) if part.voicing == 0)
        inside = np.flatnonzero(long.part_of_frame == pause)[10:-10]
        assert tracks.voicing[inside].max() == 0
        assert tracks.frication[inside].max() == 0

    def test_accents_raise_pitch_and_level_where_they_stand(self):
        _, plain, without, _ = self.spoken("mamama", Delivery())
        _, score, tracks, _ = self.spoken("mam'ama", Delivery())
        (accent,) = score.accents
        assert plain.accents.size == 0
        rise = 12 * np.log2(tracks.f0_hz[accent] / np.median(tracks.f0_hz))
        assert 1.5 < rise < 6.0
        assert tracks.voicing.argmax() == pytest.approx(accent, abs=8)
        assert without.f0_hz[0] > without.f0_hz[-1]  # declination alone

    def test_range_scales_the_excursions_of_pitch(self):
        spans = []
        for pitch_range in (-1.0, 0.0, 1.0):
            _, _, tracks, _ = self.spoken(TEXTS["s01"], Delivery(pitch_range=pitch_range))
            spans.append(np.ptp(12 * np.log2(tracks.f0_hz)))
        assert spans == sorted(spans)
        assert spans[2] > 1.6 * spans[1]

    def test_slurred_speech_misses_the_vowel_targets(self):
        spans = [
            np.ptp(self.spoken("pipapu", Delivery(precision=precision))[2].formants_hz[:, 1])
            for precision in (1.0, -1.0)
        ]
        assert spans[1] < 0.85 * spans[0]

    def test_smoothing_keeps_what_is_constant_and_the_sum_of_a_pulse(self):
        np.testing.assert_allclose(smooth(np.full((30, 4), 3.0), 7.3), 3.0)
        assert smooth(np.eye(31)[15], 9).sum() == pytest.approx(1.0)

    @pytest.mark.parametrize(("text", "message"), [("ma#tü", "'#', 'ü'"), ("mpt", "no vowel"), ("", "no vowel")])
    def test_what_is_no_sentence_is_refused(self, text, message):
        with pytest.raises(ConfigError, match=message):
            parse(text)


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, float]]:
    """Cues of each emotion, means over 6 speakers and 3 sentences, from the waveforms alone."""
    found: dict[str, list[dict[str, float]]] = {emotion: [] for emotion in EMOTIONS}
    for row, waveform in synthetic.generate(speakers=6, sentences=3):
        signal = waveform.astype(np.float64)
        frames = np.lib.stride_tricks.sliding_window_view(signal, 640)[::160]
        loud = frames[frames.std(1) > 0.5 * frames.std(1).max()]
        f0_hz = np.array([measured_f0_hz(frame) for frame in loud])
        speech = np.concatenate(loud)
        found[row["label"]].append(
            {
                "f0": float(np.log2(np.median(f0_hz))) * 12,
                "seconds": len(signal) / SAMPLE_RATE_HZ,
                "level_db": 20 * np.log10(signal.std()),
                "high_db": band_db(speech, 1_000, 4_000) - band_db(speech, 0, 1_000),
            }
        )
    return {
        emotion: {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        for emotion, rows in found.items()
    }


class TestEmotions:
    @pytest.mark.parametrize("cue", ["f0", "level_db", "high_db"])
    def test_anger_and_happiness_are_above_neutral_and_sadness_is_below(self, measured, cue):
        """Scherer (2003), table 2; Juslin & Laukka (2003), table 7."""
        assert measured["sad"][cue] < measured["neutral"][cue] < min(measured["angry"][cue], measured["happy"][cue])

    def test_anger_and_happiness_are_fast_and_sadness_is_slow(self, measured):
        assert max(measured["angry"]["seconds"], measured["happy"]["seconds"]) < measured["neutral"]["seconds"]
        assert measured["neutral"]["seconds"] < measured["sad"]["seconds"]

    def test_happiness_is_higher_and_anger_is_sharper(self, measured):
        assert measured["happy"]["f0"] > measured["angry"]["f0"]
        assert measured["angry"]["high_db"] > measured["happy"]["high_db"]

    def test_emotions_overlap_but_are_there(self):
        """Nearest centroid in the parameters of delivery, speakers unknown: neither chance nor certainty."""
        rows = [
            (label, deliver(make_speaker(number, 0), emotion, rng(number, label, take)).vector)
            for number in range(1, 11)
            for label, emotion in enumerate(EMOTIONS)
            for take in range(10)
        ]
        labels, vectors = np.array([label for label, _ in rows]), np.array([vector for _, vector in rows])
        vectors = vectors / vectors.std(0)
        centroids = np.stack([vectors[labels == label].mean(0) for label in range(4)])
        right = (((vectors[:, None] - centroids) ** 2).sum(2).argmin(1) == labels).mean()
        assert 0.8 < right < 0.95

    def test_without_expressiveness_no_emotion_is_heard(self, monkeypatch):
        monkeypatch.setattr(speakers, "EXPRESSIVENESS", 0.0)
        speaker = make_speaker(3, 0)
        waveforms = [utterance.say(speaker, emotion, TEXTS["s02"], rng()) for emotion in EMOTIONS]
        for waveform in waveforms[1:]:
            np.testing.assert_array_equal(waveform, waveforms[0])


class TestSpeakers:
    def test_women_and_men_in_turn_with_their_own_ranges(self):
        people = [make_speaker(number, seed) for number in range(1, 11) for seed in range(5)]
        women, men = ([person for person in people if person.gender == gender] for gender in ("female", "male"))
        assert len(women) == len(men) == 25
        assert np.mean([w.f0_hz for w in women]) > 1.5 * np.mean([m.f0_hz for m in men])
        assert np.mean([w.tract_scale for w in women]) / np.mean([m.tract_scale for m in men]) == pytest.approx(
            1.16, abs=0.03
        )
        assert len({person.f0_hz for person in people}) == 50

    def test_loud_voices_are_turned_down_not_clipped(self):
        speaker = make_speaker(1, 0)
        shout = 1e4 * np.sin(np.linspace(0, 300, 16_000)).astype(np.float32)
        recorded = utterance.record(shout, speaker, rng())
        assert np.abs(recorded).max() == pytest.approx(0.98, abs=1e-5)
        assert np.mean(np.abs(recorded) > 0.979) < 0.15  # a sine's crests, not a plateau


class TestGenerate:
    def test_same_seed_same_bits_and_another_seed_another_corpus(self):
        first, again, other = (list(synthetic.generate(speakers=2, sentences=1, seed=seed)) for seed in (3, 3, 4))
        assert len(first) == 8
        for (row, waveform), (row_again, waveform_again), (_, waveform_other) in zip(first, again, other, strict=True):
            assert row == row_again
            assert waveform.tobytes() == waveform_again.tobytes()
            assert waveform.tobytes() != waveform_other.tobytes()

    def test_a_smaller_corpus_is_part_of_the_larger(self):
        small = {row["id"]: waveform for row, waveform in synthetic.generate(speakers=1, sentences=1)}
        large = {
            row["id"]: waveform for row, waveform in synthetic.generate(speakers=2, sentences=2, utterances_per_cell=2)
        }
        assert len(large) == 2 * 2 * 4 * 2
        for name, waveform in small.items():
            np.testing.assert_array_equal(waveform, large[name])

    def test_waveforms_are_float32_within_full_scale_and_of_sentence_length(self):
        for _, waveform in synthetic.generate(speakers=2, sentences=10, seed=1):
            assert waveform.dtype == np.float32
            assert 0.01 < np.abs(waveform).max() <= 0.98
            assert 1.0 < len(waveform) / SAMPLE_RATE_HZ < 3.0

    def test_rows_say_synthetic_and_are_balanced(self):
        rows = [row for row, _ in synthetic.generate(speakers=4, sentences=1)]
        assert {row["corpus"] for row in rows} == {row["style"] for row in rows} == {"synthetic"}
        assert all(row["speaker"].startswith("synthetic-") and row["language"] == "und" for row in rows)
        assert sorted((row["speaker"], row["label"]) for row in rows) == [
            (f"synthetic-{number:02d}", emotion) for number in range(1, 5) for emotion in sorted(EMOTIONS)
        ]
        assert [row["session"] for row in rows[::4]] == ["synthetic-pair-01"] * 2 + ["synthetic-pair-02"] * 2
        assert [row["gender"] for row in rows[::4]] == ["female", "male"] * 2

    def test_every_number_out_of_range_is_named(self):
        with pytest.raises(ConfigError) as error:
            synthetic.generate(speakers=0, sentences=11, utterances_per_cell=100, seed=-1)
        assert [fault.what for fault in error.value.faults] == ["speakers", "sentences", "utterances_per_cell", "seed"]
        with pytest.raises(ConfigError, match=r"speakers: got 2\.5"):
            synthetic.generate(speakers=2.5)


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        synthetic.write(tmp_path / "corpus", speakers=2, sentences=1)
        return tmp_path / "corpus"

    def test_written_files_are_the_waveforms_to_16_bits(self, tmp_path):
        manifest = synthetic.write(tmp_path / "new" / "corpus", speakers=2, sentences=1, seed=5)
        generated = list(synthetic.generate(speakers=2, sentences=1, seed=5))
        assert manifest.ids == [row["id"] for row, _ in generated]
        assert manifest.name == "synthetic"
        for path, (_, waveform) in zip(manifest.audio_paths(), generated, strict=True):
            samples, rate_hz = soundfile.read(path, dtype="float32")
            assert rate_hz == 16_000
            assert soundfile.info(path).subtype == "PCM_16"
            np.testing.assert_allclose(samples, waveform, atol=1.6 / 32_768)
        assert "no human voice" in (tmp_path / "new" / "corpus" / "README.txt").read_text()

    def test_read_gives_back_what_was_written(self, folder):
        """Speakers and sessions as they are called within the corpus; the rest as it was."""
        release = synthetic.read(folder)
        rows = {row["id"]: row for row in release.rows}
        assert (release.notes, release.root) == ([], folder)
        assert len(rows) == len(release.rows) == 8
        for generated, _ in synthetic.generate(speakers=2, sentences=1):
            row = rows[generated["id"]]
            assert {f"synthetic-{row[name]}" for name in ("speaker", "session")} == {
                generated[name] for name in ("speaker", "session")
            }
            for name in ("path", "label", "raw_label", "gender", "text_id"):
                assert row[name] == generated[name]

    def test_read_fills_an_empty_or_new_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(synthetic.write, "__defaults__", (1, 1, 1, 0))  # speakers, sentences, takes, seed
        (tmp_path / "empty").mkdir()
        for name in ("empty", "absent"):
            rows = synthetic.read(tmp_path / name).rows
            assert [row["label"] for row in rows] == list(EMOTIONS)
            assert all((tmp_path / name / row["path"]).is_file() for row in rows)

    def test_preparing_a_new_folder_gives_the_whole_corpus(self, tmp_path, monkeypatch):
        monkeypatch.setattr(synthetic, "say", lambda *arguments: np.zeros(160, np.float32))  # 400 of them
        manifest, notes = prepare("synthetic", tmp_path / "new", LABEL_SETS["iemocap4"], check_audio=False)
        assert notes == []
        assert manifest.table.groupby("label").size().to_dict() == dict.fromkeys(EMOTIONS, 100)
        expected = sorted(row["speaker"] for row, _ in synthetic.generate(sentences=1)) * 10
        assert sorted(manifest.table["speaker"]) == sorted(expected)
        assert set(manifest.table["corpus"]) == set(manifest.table["style"]) == {"synthetic"}

    def test_missing_and_extra_files_are_named(self, folder):
        (folder / "synthetic-01" / "synthetic-01-s01-sad-01.wav").rename(folder / "stranger.wav")
        release = synthetic.read(folder)
        assert len(release.rows) == 7
        assert {note.items for note in release.notes} == {("synthetic-01-s01-sad-01",), ("stranger.wav",)}

    def test_a_folder_with_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("all of it")
        with pytest.raises(CorpusError, match="files in it"):
            synthetic.write(tmp_path)
        assert synthetic.read(tmp_path).rows == []
        for action in (synthetic.write, synthetic.read):
            with pytest.raises(CorpusError, match="got a file, expected a folder"):
                action(tmp_path / "thesis.txt")
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_interrupted_writing_leaves_nothing(self, tmp_path, monkeypatch):
        calls = iter(range(3))

        def interrupted(*arguments):
            if next(calls) == 2:
                raise KeyboardInterrupt
            return utterance.say(*arguments)

        monkeypatch.setattr(synthetic, "say", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthetic.write(tmp_path / "corpus")
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CorpusError, match="expected a folder to write into"):
            synthetic.write(tmp_path / "file" / "corpus", speakers=1, sentences=1)

    def test_facts_of_the_corpus_are_its_facts(self):
        rows = [row for row, _ in synthetic.generate(speakers=2)]
        assert synthetic.CORPUS.utterances == 5 * len(rows) == 400
        assert set(synthetic.CORPUS.label_counts) == {row["label"] for row in rows}
        assert sum(synthetic.CORPUS.label_counts.values()) == synthetic.CORPUS.utterances
