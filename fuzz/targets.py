"""Fuzz targets: readers of external data, each with a strategy for inputs."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors.torch
import soundfile
import tomli_w
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from onnx import helper
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from affekt import audio
from affekt.audio import containers, opus
from affekt.config import as_table, load
from affekt.data.corpora import prepare
from affekt.data.labels import LABEL_SETS, label_set
from affekt.data.manifest import Manifest
from affekt.data.protocols import FoldPlan, make_folds
from affekt.errors import AffektError
from affekt.export.onnx_file import Description, Pipeline, export
from affekt.features.log_mel import FeatureConfig, Normalizer
from affekt.losses import make_loss
from affekt.nn import Network, NetworkConfig
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.sources import Segment
from affekt.recognition.turns import read_turns
from affekt.runtime.devices import seeded
from affekt.serving.app import create_app
from affekt.serving.settings import Limits, ServerSettings
from affekt.training.checkpoint import Checkpoint, _digest
from affekt.training.recipes import RECIPES, Recipe
from affekt.training.systems import System, resolve
from fuzz.mutations import NUMBERS, TEXTS, VALUES, edited, mutated

LABELS = ("angry", "happy", "neutral", "sad")
RATE_HZ = 16_000
CONTAINERS = (
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "GSM610"),
    ("W64", "PCM_24"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AU", "ULAW"),
    ("CAF", "ALAC_16"),
)
MUXED = (
    ("ipod", "aac"),
    ("mov", "pcm_s16le"),
    ("webm", "libopus"),
    ("matroska", "aac"),
    ("adts", "aac"),
    ("amr", "libopencore_amrnb"),
    ("asf", "wmav2"),
    ("avi", "pcm_s16le"),
    ("flv", "pcm_s16le"),
    ("mpegts", "aac"),
)
"""Containers that PyAV writes and reads."""
WEBM = bytes.fromhex(
    "1a45dfa3 9f4286810142f7810142f2810442f381084282847765626d42878104428581021853806701ffffffffffffff"
)
"""The head of a WebM file of unknown length with nothing in it."""
PROBLEM_KEYS = {"what", "got", "expected", "remedy", "also"}


@dataclass(frozen=True)
class Target:
    """A reader of external data.

    Attributes:
        name: name in tables.
        good: valid inputs.
        inputs: strategy for other inputs.
        use: takes an input, and a folder for its files; raises AffektError where it refuses.
    """

    name: str
    good: Callable[[], Sequence[Any]]
    inputs: Callable[[], SearchStrategy[Any]]
    use: Callable[[Any, Path], object]


# Audio


def voice(seconds: float = 0.3, seed: int = 0) -> np.ndarray:
    """A voice-like signal: a buzz over noise."""
    rng = np.random.default_rng(seed)
    time_seconds = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * 140 * k * time_seconds) / k for k in range(1, 9))
    return (0.1 * buzz + 0.01 * rng.normal(size=len(time_seconds))).astype(np.float32)


@cache
def recordings() -> tuple[bytes, ...]:
    """A short file of every format, concatenated files, and two headers without content."""
    found = []
    for container, encoding in CONTAINERS:
        file = io.BytesIO()
        soundfile.write(file, voice(), RATE_HZ, format=container, subtype=encoding)
        found.append(file.getvalue())
    joined_kinds = [found[index] * 2 for index, (container, _) in enumerate(CONTAINERS) if container != "W64"]
    return (*found, *joined_kinds, *muxed(), WEBM, b"RIFF\xff\xff\xff\xffWAVEfmt ")


def muxed() -> list[bytes]:
    """A short file of every format that PyAV decodes; none without PyAV."""
    if not containers.available():
        return []
    import av

    found = []
    for container, codec in MUXED:
        file = io.BytesIO()
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream(codec, rate=RATE_HZ if codec != "libopencore_amrnb" else 8_000, layout="mono")
            stream.bit_rate = 12_200 if codec == "libopencore_amrnb" else 32_000
            frame = av.AudioFrame.from_ndarray(voice()[None], format="fltp", layout="mono")
            frame.sample_rate = RATE_HZ
            size = stream.frame_size or None
            resampler = av.AudioResampler(stream.format.name, "mono", stream.rate, frame_size=size)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(part))
            output.mux(stream.encode(None))
        found.append(file.getvalue())
    return found


def use_audio(content: bytes, folder: Path) -> None:
    """Use a recording in every way, up to a minute of it."""
    audio.probe(content)
    minute = list(itertools.islice(audio.blocks(content, RATE_HZ, 10.0), 6))
    assert all(np.isfinite(block).all() for block in minute)
    check_prediction(recognizer().predict(content).to_dict())


def check_prediction(answer: dict[str, Any]) -> None:
    """Check that the probabilities are valid."""
    values = list(answer["probabilities"].values())
    assert answer["label"] == "no speech" or abs(sum(values) - 1) < 1e-3, answer
    assert all(0 <= value <= 1 for value in values), answer


# Manifests


@cache
def manifest(folder: Path) -> Manifest:
    """Twelve utterances of three speakers, all columns filled."""
    rows = [
        {"id": f"u{index}", "path": f"a/{index}.wav", "label": LABELS[index % 4], "speaker": f"s{index // 4}"}
        | {"start": 0.25, "end": 1.5, "gender": "female", "text_id": f"t{index % 2}", "corpus": "own", "votes.sad": 2}
        for index in range(12)
    ]
    return Manifest.from_rows(rows, folder)


@cache
def tables() -> dict[str, bytes]:
    """The same manifest in both formats."""
    with tempfile.TemporaryDirectory() as name:
        found = {}
        for suffix in (".csv", ".parquet"):
            path = Path(name) / f"m{suffix}"
            manifest(Path(name)).write(path)
            found[suffix] = path.read_bytes()
    return found


OLD_HEADER = b"# root: ../x\n"
TIMES = [b"0 days 00:00:01.500000", b"1:02.5", b"00:00:01", b"0.5s", b'"0,5"', b"NaT", b"1h 2m", b"-1 days +23:59:59"]


def table_texts() -> SearchStrategy[bytes]:
    """CSV with other time formats, other columns, and the header of version 0.1."""
    timed = st.sampled_from(TIMES).map(lambda time: tables()[".csv"].replace(b",1.5,", b"," + time + b","))
    return st.tuples(st.sampled_from([b"", OLD_HEADER]), timed).map(b"".join)


def manifests() -> SearchStrategy[tuple[str, bytes]]:
    cells = st.lists(st.lists(TEXTS, min_size=1, max_size=6), min_size=1, max_size=6)
    header = "id,path,label,start,end,speaker\n"
    own = cells.map(lambda rows: (".csv", (header + "\n".join(map(",".join, rows))).encode("utf-8", "replace")))
    people = table_texts().flatmap(lambda text: st.tuples(st.just(".csv"), st.just(text) | mutated([text])))
    return (
        own
        | people
        | st.sampled_from([".csv", ".parquet"]).flatmap(
            lambda suffix: st.tuples(st.just(suffix), mutated([tables()[suffix]]))
        )
    )


def use_manifest(table: tuple[str, bytes], folder: Path) -> None:
    suffix, content = table
    path = folder / f"m{suffix}"
    path.write_bytes(content)
    if suffix == ".csv":
        (folder / "a").mkdir(exist_ok=True)
        for index in range(6):
            (folder / "a" / f"{index}.wav").touch()
        with contextlib.suppress(AffektError):
            prepare("table", path, check_audio=False)
    read = Manifest.read(path)
    read.soft_labels(LABELS)
    read.audio_paths()
    read.write(folder / "again.csv")
    read.select(LABEL_SETS["basic4"])


# Tables of segments


SEGMENTS = (
    (".csv", b"path,start,end,speaker,label\na.wav,0,0:01.5,A,sad\na.wav,1.5,NaT,B,\n"),
    (".tsv", b"file\tonset\tduration\na\t0\t0,5s\n"),
    (".rttm", b"SPEAKER a 1 0.00 1.50 <NA> <NA> A <NA> <NA>\nSPEAKER a 1 1.50 0.5 <NA> <NA> B <NA> <NA>\n"),
    (
        ".TextGrid",
        b'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2\ntiers? <exists>\nsize = 1\n'
        b'item []:\n item [1]:\n  class = "IntervalTier"\n  name = "words"\n  xmin = 0\n  xmax = 2\n'
        b'  intervals: size = 1\n  intervals [1]:\n   xmin = 0\n   xmax = 2\n   text = "a ""b"" 1"\n',
    ),
    (
        ".TextGrid",
        b'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2\n<exists>\n1\n'
        b'"IntervalTier"\n"w"\n0\n2\n1\n0\n2\n"x"\n',
    ),
)


def segment_tables() -> SearchStrategy[tuple[str, bytes]]:
    return st.sampled_from(SEGMENTS).flatmap(lambda table: st.tuples(st.just(table[0]), mutated([table[1]])))


def use_segments(table: tuple[str, bytes], folder: Path) -> None:
    suffix, content = table
    (folder / "a.wav").touch()
    path = folder / f"t{suffix}"
    path.write_bytes(content)
    for turn in read_turns(path).turns:
        if isinstance(turn.item, Segment):
            start, end = turn.item.start_seconds or 0.0, turn.item.end_seconds
            assert 0 <= start < np.inf
            assert end is None or start < end < np.inf
        else:
            assert str(turn.item)


# TOML


TABLES: tuple[dict[str, Any], ...] = (
    as_table(RECIPES["robust"]),
    {"own": {"loss": "focal", "loss_options": {"gamma": 2.0}, "network": {"filters": [8, 8], "pools": [2, 2]}}},
    {"name": "two", "classes": {"high": ["angry"], "low": ["sad", "neutral"]}},
)
"""A recipe, a system and a label set."""


def toml() -> SearchStrategy[bytes]:
    texts = [dumped(table) for table in TABLES]
    deep = st.sampled_from([b"a = " + b"[" * 100_000, b"a = " + b"1" * 5_000, b"[" + b"a." * 4_000 + b"a]\n"])
    return mutated(texts) | st.sampled_from(TABLES).flatmap(edited).map(dumped) | deep


def dumped(tree: Any) -> bytes:
    """The tree as TOML if possible; else similar text."""
    try:
        return tomli_w.dumps(tree).encode()
    except (TypeError, ValueError, AttributeError, OverflowError):
        return json.dumps(tree).encode()


def use_toml(content: bytes, folder: Path) -> None:
    path = folder / "own.toml"
    path.write_bytes(content)
    refusals: list[AffektError] = []
    readers: tuple[Callable[[], object], ...] = (
        lambda: load(Recipe, path),
        lambda: resolve(str(path)),
        lambda: label_set(path),
    )
    for read in readers:
        try:
            read()
        except AffektError as error:
            refusals.append(error)
    if len(refusals) == len(readers):  # it is none of the three
        raise refusals[0]


# Fold files


@cache
def plan() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        make_folds(manifest(Path()), "speaker", 3, 0).write(Path(name) / "folds.json")
        found: dict[str, Any] = json.loads((Path(name) / "folds.json").read_text())
    return found


def fold_files() -> SearchStrategy[bytes]:
    text = json.dumps(plan()).encode()
    trees = edited(plan()) | VALUES
    return mutated([text]) | trees.map(lambda tree: json.dumps(tree).encode()) | st.just(b"[" * 100_000)


def use_folds(content: bytes, folder: Path) -> None:
    path = folder / "folds.json"
    path.write_bytes(content)
    FoldPlan.read(path, manifest(Path()))
    FoldPlan.read(path).line("own", 4, 1)


# Checkpoints


@cache
def checkpoint() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Card and tensors of a small checkpoint."""
    with tempfile.TemporaryDirectory() as name, seeded(0):
        system = System("own", NetworkConfig((4, 4), pools=(2, 2), lstm_cells_per_direction=4), features=FEATURES)
        network, _ = system.build(4)
        path = Path(name) / "m.safetensors"
        Checkpoint(system, LABELS, NORMALIZER, network.state_dict(), provenance={"corpus": "none"}).save(path)
        with safetensors.safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return json.loads(file.metadata()["affekt"]), tensors


def packed(card: Any, tensors: dict[str, torch.Tensor]) -> bytes:
    """A file with a valid hash, as an attacker would make it."""
    if isinstance(card, dict):
        card = {key: value for key, value in card.items() if key != "sha256"}
        card["sha256"] = _digest(card, tensors)
    return safetensors.torch.save(tensors, {"affekt": json.dumps(card)})


def checkpoints() -> SearchStrategy[bytes]:
    card, tensors = checkpoint()
    whole = packed(card, tensors)
    huge = [{"lstm_cells_per_direction": 10**6}, {"filters": [10**5, 10**5]}, {"kernel": 10**5 + 1}, {"filters": []}]
    forged = edited(card) | st.sampled_from(huge).map(
        lambda shape: card | {"system": card["system"] | {"network": card["system"]["network"] | shape}}
    )
    fewer = st.sets(st.sampled_from(sorted(tensors)), max_size=3).map(
        lambda gone: {name: tensor for name, tensor in tensors.items() if name not in gone}
    )
    return mutated([whole]) | st.builds(packed, forged, fewer)


def use_checkpoint(content: bytes, folder: Path) -> None:
    path = folder / "m.safetensors"
    path.write_bytes(content)
    loaded = Checkpoint.load(path)
    loaded.build()


# ONNX models

FEATURES = FeatureConfig(mels=12, clip_seconds=3.0)
NORMALIZER = Normalizer((-6.0,) * 12, (2.0,) * 12)


@cache
def exported() -> bytes:
    """A small model, as `affekt export` writes it."""
    with tempfile.TemporaryDirectory() as name, seeded(0):
        network = Network(NetworkConfig((4, 4), pools=(2, 2), lstm_cells_per_direction=4, masked=True), 12, 4)
        loss = make_loss("softmax", 4, network.embedding_size)
        path = Path(name) / "m.onnx"
        export(Pipeline(network, FEATURES, NORMALIZER, loss.logits), Description(LABELS, license="CC0-1.0"), path)
        return path.read_bytes()


@cache
def recognizer() -> Recognizer:
    return Recognizer(exported(), threads=1)


@st.composite
def models(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        return draw(mutated([exported()]))
    model = onnx.load_model_from_string(exported())
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(FORGERIES))(draw, model)
    return bytes(model.SerializeToString())


def forge_card(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    for entry in model.metadata_props:
        with contextlib.suppress(ValueError):
            entry.value = json.dumps(draw(edited(json.loads(entry.value))))


def forge_location(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    """A model with external weights."""
    tensor = draw(st.sampled_from(list(model.graph.initializer)))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=draw(st.sampled_from(["/etc/passwd", "../../../etc/passwd", "w"])))


def forge_shape(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    tensor = draw(st.sampled_from(list(model.graph.initializer)))
    tensor.dims[:] = draw(st.lists(st.sampled_from(NUMBERS[:10]), max_size=4))


def forge_node(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    node = draw(st.sampled_from(list(model.graph.node)))
    node.op_type = draw(st.sampled_from(["Loop", "If", "Identity", "Exp", "Log", "Div", "NonZero", "Gemm", "Unknown"]))


def forge_output(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    """A model that loads and returns other outputs."""
    node = helper.make_node(
        draw(st.sampled_from(["Log", "Neg", "ReduceSum", "Shape", "Cast"])), ["p"], ["probabilities"]
    )
    if node.op_type == "Cast":
        node.attribute.append(helper.make_attribute("to", onnx.TensorProto.DOUBLE))
    for other in model.graph.node:
        other.output[:] = ["p" if name == "probabilities" else name for name in other.output]
    model.graph.node.append(node)


FORGERIES = (forge_card, forge_location, forge_shape, forge_node, forge_output)


def use_model(content: bytes, folder: Path) -> None:
    check_prediction(Recognizer(content, threads=1).predict(voice(1.2), RATE_HZ).to_dict())


# HTTP and WebSocket

opus.version()  # loads the system's library, by its name, before any input is used


@dataclass
class _Server:
    """The application in this process, started at the first request."""

    clients: list[TestClient] = field(default_factory=list)

    def client(self) -> TestClient:
        if not self.clients:
            limits = Limits(body_bytes=2**20, pending_bytes=2**20, timeline_seconds=60, work_seconds=4)
            app = create_app(recognizer(), ServerSettings(limits=limits, threads=1))
            self.clients.append(TestClient(app, base_url="http://127.0.0.1").__enter__())
        return self.clients[0]


SERVER = _Server()
PATHS = ("/v1/predict", "/v1/timeline", "/v1/model", "/v1/stream", "/", "/docs", "/page/../../x", "/page/%2e%2e/%00")
HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-type", "content-length", "origin", "host", "authorization", "expect", "range", "x-request-id", "x"]
    ),
    st.sampled_from(
        ["multipart/form-data", "multipart/form-data; boundary=x", "1e9", "-1", "null", "127.0.0.1", "a" * 99]
    ),
    max_size=2,
)
QUERIES = st.dictionaries(
    st.sampled_from(["min_confidence", "window_seconds", "hop_seconds", "activity", "format", "include", "rate", "x"]),
    st.sampled_from(
        ["0", "0.1", "1", "60", "nan", "inf", "-1", "1e999", "csv", "html", "none", "silero", "envelope", ""]
    ),
    max_size=3,
)


def requests() -> SearchStrategy[dict[str, Any]]:
    fields = TEXTS | st.sampled_from(["file", "baseline"])
    part = st.builds(
        lambda name, kind, body: (
            b"--x\r\ncontent-disposition: form-data; name=%s; filename=%s\r\n\r\n%s\r\n"
            % (kind.encode("utf-8", "replace"), name.encode("utf-8", "replace"), body)
        ),
        TEXTS,
        fields,
        mutated(recordings()),
    )
    form = st.lists(part, min_size=1, max_size=3).map(lambda parts: b"".join(parts) + b"--x--\r\n")
    bodies = mutated(recordings()) | form | mutated([b"--x\r\na: b\r\n\r\nc\r\n--x--\r\n"]) | st.binary(max_size=64)
    methods = st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "OPTIONS", "HEAD"])
    parts = {"method": methods, "url": st.sampled_from(PATHS), "headers": HEADERS, "params": QUERIES, "content": bodies}
    return st.fixed_dictionaries(parts)


def use_request(request: dict[str, Any], folder: Path) -> None:
    answer = SERVER.client().request(**request)
    assert answer.status_code < 500 or (answer.status_code == 503 and "retry-after" in answer.headers), answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.status_code >= 400 and request["method"] != "HEAD" and answer.headers["content-type"] != "text/plain":
        assert set(answer.json()) >= PROBLEM_KEYS or answer.status_code == 400, answer.text
    if answer.status_code >= 400:
        raise AffektError("request", got=str(answer.status_code))
    if request["url"] == "/v1/predict" and request["method"] == "POST":
        check_prediction(answer.json())


def conversations() -> SearchStrategy[tuple[dict[str, str], list[bytes | str]]]:
    odd = [np.full(20_000, value, "<f4").tobytes() for value in (np.nan, np.inf, 3e38, 1e-44, -1e30)]
    known = {
        "rate": st.sampled_from(["16000", "1000", "768000", "44100"]),
        "encoding": st.sampled_from(["f32le", "s16le"]),
        "hop_seconds": st.sampled_from(["0.25", "0.3", "1"]),
        "activity": st.sampled_from(["none", "energy"]),
    }
    messages = st.lists(mutated([*SAMPLES, *odd]) | TEXTS.filter(lambda text: text.isprintable()), max_size=5)
    return st.tuples(st.fixed_dictionaries({}, optional=known) | QUERIES, messages)


def use_stream(conversation: tuple[dict[str, str], list[bytes | str]], folder: Path) -> None:
    query, messages = conversation
    try:
        with SERVER.client().websocket_connect("ws://127.0.0.1/v1/stream", params=query) as socket:
            for message in messages:
                socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message)
            socket.send_text("end")
            for line in _lines(socket):
                known = json.loads(line, parse_constant=_refuse_constant)
                check_prediction(known) if "label" in known else known["what"]
    except WebSocketDenialResponse as refused:
        if refused.status_code != 422:
            raise
        raise AffektError("stream", got="422") from refused


def _lines(socket: Any) -> Iterator[str]:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            yield socket.receive_text()


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


SAMPLES = (voice(1.0).astype("<f4").tobytes(), (voice(1.0) * 32_767).astype("<i2").tobytes())
GOOD_REQUEST = {"method": "POST", "url": "/v1/predict", "headers": {}, "params": {}}

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("audio", lambda: recordings()[: len(CONTAINERS)], lambda: mutated(recordings()), use_audio),
        Target("manifests", lambda: list(tables().items()), manifests, use_manifest),
        Target("segments", lambda: list(SEGMENTS), segment_tables, use_segments),
        Target("toml", lambda: [dumped(table) for table in TABLES], toml, use_toml),
        Target("folds", lambda: [json.dumps(plan()).encode()], fold_files, use_folds),
        Target("checkpoints", lambda: [packed(*checkpoint())], checkpoints, use_checkpoint),
        Target("models", lambda: [exported()], models, use_model),
        Target("http", lambda: [GOOD_REQUEST | {"content": recordings()[0]}], requests, use_request),
        Target("websocket", lambda: [({"encoding": "f32le"}, [SAMPLES[0]])], conversations, use_stream),
    )
}
