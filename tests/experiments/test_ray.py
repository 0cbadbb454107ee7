"""Work on a real Ray cluster: two nodes on this machine's loopback, one of which is killed in the middle.

All of it is in one file, which runs in one process: a cluster is started once.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from filelock import FileLock
from starlette.testclient import TestClient

from affekt import cli
from affekt.config import load
from affekt.data.manifest import Manifest
from affekt.errors import AffektError, ConfigError
from affekt.experiments.jobs import finish
from affekt.experiments.plan import Experiment, TrainingJob, plan_experiment
from affekt.experiments.workers import RayJobs, run_on_ray, run_parallel
from affekt.experiments.workers.ray import FILES, Shipment, _Driver, work
from affekt.recognition import bulk
from affekt.recognition.prediction import Failure, Prediction
from affekt.recognition.recognizer import Recognizer
from affekt.runtime import ray_cluster
from affekt.runtime.ray_cluster import RayCluster, RayReplicas, check_libraries, check_room, connected, libraries
from affekt.serving import replicas
from affekt.serving.app import create_app
from affekt.serving.live import CLOSED_FOR_NOW
from affekt.serving.problems import RequestError
from affekt.serving.replicas import Deployment, Replica, Replicated, deployed
from affekt.serving.settings import Limits, ServerSettings
from affekt.training.fitted import Epoch
from affekt.training.recipes import Recipe
from affekt.training.systems import resolve

EXACT = ("model.safetensors", "predictions.csv", "embeddings.npy", "summary.json", "folds.json")
EPOCHS = 50
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_enable_metrics_collection": "0",
    "RAY_health_check_period_ms": "1000",  # five of these without an answer are a death
    "RAY_memory_monitor_refresh_ms": "0",  # the tests of others on this machine are no reason to kill ours
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: nothing listens but at 127.0.0.1
}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """A cluster of one node, to which tests add theirs; when it is gone, so are all its processes."""
    place = tempfile.mkdtemp(prefix="affekt-ray-")  # short, for the names of sockets
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (QUIET | {"RAY_TMPDIR": place, "TMPDIR": place}).items():
            patch.setenv(name, value)
        import ray  # which reads these variables
        from ray.cluster_utils import Cluster

        started = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        try:
            ray.init(started.address, log_to_driver=False, logging_level=logging.ERROR)
            yield started
        finally:
            ray.shutdown()
            started.shutdown()
            wait_until(lambda: not processes(place))
            shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def nodes(head: Any) -> Iterator[Callable[..., Any]]:
    """Adds nodes to the cluster, with a process each that has imported what is needed; they go with the test."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    added: list[Any] = []

    def add(ready_for: str = "", **changes: Any) -> Any:
        added.append(head.add_node(**(NODE | changes)))
        head.wait_for_nodes()
        if ready_for:
            warm = ray.remote(lambda: __import__(ready_for) and None)
            places = [
                NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]
            ]
            ray.get([warm.options(scheduling_strategy=place).remote() for place in places])
        return added[-1]

    yield add
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    for node in added:
        if node.node_id in alive and node in head.worker_nodes:
            head.remove_node(node, allow_graceful=False)
    wait_until(lambda: len([node for node in ray.nodes() if node["Alive"]]) == 1)


def processes(word: str) -> list[str]:
    """Commands of this machine's processes that name a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in command:
            found.append(command)
    return found


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def plan(bursts: Path) -> Callable[..., Experiment]:
    def make(out: Path, **changes: Any) -> Experiment:
        manifest, recipe = Manifest.read(bursts / "manifest.csv"), load(Recipe, bursts / "recipe.toml")
        recipe = replace(recipe, train=replace(recipe.train, max_epochs=EPOCHS, patience=EPOCHS))
        options = {"folds": 2, "recipe": recipe, "device": "cpu", "cache": bursts / "cache"}
        return plan_experiment(manifest, resolve(str(bursts / "systems.toml"))[1:], out, **(options | changes))[0]

    return make


@pytest.fixture(scope="module")
def local_run(bursts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the local engine computes, one job after the other."""
    out = tmp_path_factory.mktemp("local") / "run"
    manifest, recipe = Manifest.read(bursts / "manifest.csv"), load(Recipe, bursts / "recipe.toml")
    recipe = replace(recipe, train=replace(recipe.train, max_epochs=EPOCHS, patience=EPOCHS))
    systems, cache = resolve(str(bursts / "systems.toml"))[1:], bursts / "cache"
    planned, _ = plan_experiment(manifest, systems, out, folds=2, recipe=recipe, device="cpu", cache=cache)
    run_parallel(planned, planned.jobs, 1)
    finish(planned)
    return out


@pytest.fixture(scope="module")
def reference(local_run: Path) -> dict[str, bytes]:
    return numbers(local_run)


def numbers(out: Path) -> dict[str, bytes]:
    """Every file that holds no times."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.name in EXACT}


class Watch:
    """Counts epochs and finished jobs, and does something once two jobs are in their middle."""

    def __init__(self, strike: Callable[[], None] = lambda: None) -> None:
        self.strike, self.struck = strike, False
        self.epochs: list[tuple[str, int]] = []
        self.done: list[str] = []

    def on_epoch(self, job: TrainingJob, epoch: Epoch) -> None:
        self.epochs.append((job.name, epoch.epoch))
        reached = {name for name, number in self.epochs if number >= 3} - set(self.done)
        if len(reached) == 2 and not self.struck:
            self.struck = True
            self.strike()

    def on_done(self, job: TrainingJob) -> None:
        self.done.append(job.name)


def kill(head: Any, node: Any) -> None:
    """A node dies at once, with all that it computes."""
    pids = children(node)
    head.remove_node(node, allow_graceful=False)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def children(node: Any, word: str = "") -> list[int]:
    """Processes of a node that are called so."""
    (raylet,) = node.all_processes["raylet"]
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet.process.pid and word in (place / "cmdline").read_text(errors="replace"):
                found.append(int(place.name))
    return found


# -------------------------------------------------------------------------------------------------------- experiments


def test_a_node_that_dies_loses_nothing(head: Any, nodes: Any, plan: Any, reference: Any, tmp_path: Path) -> None:
    experiment, node = plan(tmp_path / "run"), nodes("affekt.experiments.workers.ray")
    watch = Watch(lambda: kill(head, node))
    run_on_ray(experiment, experiment.jobs, watch.on_epoch, watch.on_done, cluster=RayJobs(state_seconds=0.0))
    finish(experiment)
    assert watch.struck
    assert numbers(tmp_path / "run") == reference
    assert sorted(watch.done) == sorted(job.name for job in experiment.jobs)
    whole = [(job.name, epoch) for job in experiment.jobs for epoch in range(1, EPOCHS + 1)]
    assert set(watch.epochs) == set(whole)
    again = len(watch.epochs) - len(whole)
    assert 1 <= again <= 2  # it went on from the last state that had come back, and not from its first epoch
    assert not list((tmp_path / "run").rglob("state.pt"))
    run_on_ray(experiment, experiment.jobs, watch.on_epoch, watch.on_done)
    assert len(watch.epochs) == len(whole) + again  # what is done is reported, and not run again
    assert len(watch.done) == 2 * len(experiment.jobs)


class Stage:
    """In the place of Ray: nodes that say what the play has for a job's first, second, ... attempt."""

    class exceptions:  # noqa: N801  (as Ray calls it)
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            cause = ModuleNotFoundError("No module named 'affekt'")

    def __init__(self, play: dict[str, list[list[Any]]]) -> None:
        self.play, self.sent, self.cancelled = play, [], 0

    def put(self, thing: object) -> object:
        return thing

    def remote(self, function: object) -> Any:
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self.send))

    def send(self, shipment: object, name: str, state: bytes | None, *rest: object) -> Iterator[Any]:
        self.sent.append((name, state))
        return iter(self.play[name].pop(0))

    def wait(self, streams: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return streams[:1], streams[1:]

    def get(self, message: Any) -> Any:
        if isinstance(message, Exception):
            raise message
        return message

    def cancel(self, stream: object, force: bool) -> None:
        self.cancelled += 1


def drive(stage: Stage, experiment: Experiment, attempts: int = 3) -> list[str]:
    """Run the jobs of an experiment on a stage; which are done."""
    done: list[str] = []
    driver = _Driver(
        stage, experiment, RayJobs(attempts=attempts), lambda *epoch: None, lambda job: done.append(job.name)
    )
    driver.run(experiment.jobs)
    return done


@pytest.fixture(scope="module")
def files(local_run: Path) -> dict[str, dict[str, bytes]]:
    """What each job of the local engine wrote."""
    folders = [path.parent for path in local_run.rglob("result.json")]
    return {str(path.relative_to(local_run)): {name: (path / name).read_bytes() for name in FILES} for path in folders}


def test_attempts_are_counted_and_go_on_from_the_last_state(plan: Any, files: Any, tmp_path: Path) -> None:
    experiment = plan(tmp_path / "run")
    first, second = (job.name for job in experiment.jobs)
    dies = Stage.exceptions.RayError("the node died\nand more")
    spoilt = files[first] | {"predictions.csv": b"id\n"}
    stage = Stage(
        {
            first: [[("state", b"one"), dies], [("state", b"two"), ("done", spoilt)], [("done", files[first])]],
            second: [[dies], [("state", b"three")], [dies]],
        }
    )
    done = drive_and_fail(stage, experiment, "the node died, expected an end, within 3 attempts", second)
    assert done == [first]
    assert [state for name, state in stage.sent if name == first] == [None, b"one", b"two"]
    assert [state for name, state in stage.sent if name == second] == [None, None, b"three"]
    assert experiment.jobs[0].done
    assert (tmp_path / "run" / second / "state.pt").read_bytes() == b"three"  # for the next time
    assert stage.cancelled == 0


def drive_and_fail(stage: Stage, experiment: Experiment, why: str, job: str) -> list[str]:
    with pytest.raises(AffektError) as raised:
        drive(stage, experiment)
    (fault,) = raised.value.faults
    assert fault.what.startswith(f"job {job}")
    assert why in str(fault)
    return [other.name for other in experiment.jobs if other.done]


def test_failures_are_listed_and_a_defect_ends_it_all(plan: Any, files: Any, tmp_path: Path) -> None:
    experiment = plan(tmp_path / "run")
    first, second = (job.name for job in experiment.jobs)
    stage = Stage(
        {first: [[("failed", ConfigError("training", got="a loss of nan"))]], second: [[("done", files[second])]]}
    )
    assert drive_and_fail(stage, experiment, "training: got a loss of nan", first) == [second]
    stage = Stage({first: [[Stage.exceptions.RayTaskError("...")]]})
    assert drive_and_fail(stage, experiment, "ModuleNotFoundError: No module named 'affekt'", first) == [second]
    stage = Stage({first: [[("broken", "Traceback: what happened")]]})
    with pytest.raises(RuntimeError, match=rf"job {first}:\nTraceback: what happened"):
        drive(stage, experiment)
    assert stage.cancelled == 1


def test_jobs_that_another_process_holds_are_waited_for(plan: Any, files: Any, tmp_path: Path) -> None:
    experiment = plan(tmp_path / "run")
    first, second = experiment.jobs
    first.folder.mkdir(parents=True)
    held = threading.Event()

    def hold() -> None:
        with FileLock(first.folder / ".lock"):
            held.set()
            time.sleep(0.3)

    threading.Thread(target=hold).start()
    held.wait()
    stage = Stage({second.name: [[("done", files[second.name])]], first.name: [[("done", files[first.name])]]})
    assert drive(stage, experiment) == [second.name, first.name]


def test_what_a_node_says_of_a_job(plan: Any, reference: Any, tmp_path: Path) -> None:
    """The same function that runs on nodes, in this process."""
    experiment = plan(tmp_path / "run")
    shipment, job = Shipment.pack(experiment), experiment.jobs[1]
    versions = libraries("numpy")
    messages = list(work(shipment, job.name, None, 0.0, versions))
    kinds = [kind for kind, _ in messages]
    assert kinds == ["epoch", *["epoch", "state"] * (EPOCHS - 1), "done"]
    assert [content.epoch for kind, content in messages if kind == "epoch"] == list(range(1, EPOCHS + 1))
    files = messages[-1][1]
    assert set(files) == {*FILES}
    for name in ("model.safetensors", "predictions.csv", "embeddings.npy"):
        assert files[name] == reference[f"{job.name}/{name}"]
    last_state = messages[-2][1]
    rest = list(work(shipment, job.name, last_state, 60.0, versions))
    assert [kind for kind, _ in rest] == ["epoch", "done"]
    assert rest[-1][1]["model.safetensors"] == files["model.safetensors"]
    ((kind, error),) = work(shipment, job.name, None, 0.0, {"numpy": "1.0"})
    assert (kind, str(error).split()[0]) == ("failed", "numpy")
    wrong = replace(experiment, data=replace(experiment.data, labels=experiment.data.labels + 1))
    ((kind, trace),) = work(Shipment.pack(wrong), job.name, None, 0.0, versions)
    assert (kind, trace.splitlines()[0]) == ("broken", "Traceback (most recent call last):")
    assert not (tmp_path / "run" / job.system.name).exists()  # it knows nothing of the run directory


def test_jobs_share_a_gpu_and_fail_one_by_one_where_it_is_none(nodes: Any, plan: Any, tmp_path: Path) -> None:
    nodes(num_cpus=2, num_gpus=1)  # so it says
    experiment = plan(tmp_path / "run", device="auto")
    done: list[str] = []
    half = RayJobs(gpus_per_job=0.5)
    with pytest.raises(AffektError) as raised:
        run_on_ray(experiment, experiment.jobs, on_done=lambda job: done.append(job.name), cluster=half)
    failed = sorted(fault.what for fault in raised.value.faults)
    assert failed == sorted(f"job {job.name}: device" for job in experiment.jobs)
    assert {fault.got for fault in raised.value.faults} == {"'cuda'"}
    assert done == []
    with pytest.raises(ConfigError, match=r"the largest node: got CPU 2, GPU 1, expected at least CPU 1, GPU 2"):
        run_on_ray(experiment, experiment.jobs, cluster=RayJobs(gpus_per_job=2))


def test_the_command_is_interrupted_and_goes_on(
    head: Any, bursts: Path, tmp_path: Path, interruptible: list[str]
) -> None:
    """Ctrl-C ends it in order; called again, it goes on from the epochs that it has."""
    import ray

    out, systems = tmp_path / "run", tmp_path / "one.toml"
    systems.write_text("[focal]" + (bursts / "systems.toml").read_text().partition("[focal]")[2])
    words = ["experiment", str(bursts / "manifest.csv"), "-o", str(out), "--systems", str(systems)]
    words += ["--folds", "2", "--recipe", "paper", "--cache", str(bursts / "cache"), "--device", "cpu"]
    words += ["--train.max-epochs", "30", "--train.patience", "30", "--train.batch-size", "8", "--engine", "ray"]
    words += ["--ray.address", head.address, "--ray.state-seconds", "0", "--log-format", "json"]
    command = [*interruptible, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    records = []
    for line in process.stderr:
        records.append(json.loads(line))
        if records[-1]["message"] == "epoch" and records[-1]["epoch"] == 3:
            process.send_signal(signal.SIGINT)
            break
    rest = [json.loads(line) for line in process.stderr]
    assert process.wait(60) == 130
    assert rest[-1]["message"] == "interrupted"
    job = records[-1]["job"]
    assert (out / job / "state.pt").exists()
    wait_until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])  # nobody computes
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    again = [json.loads(line) for line in done.stderr.splitlines()]
    first = next(record["epoch"] for record in again if record.get("job") == job)
    assert first > 1
    assert (out / "report.html").exists()


# -------------------------------------------------------------------------------------------------------- recognition


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, babble: Any) -> Path:
    """Forty recordings of many lengths, and two files that are none."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(40):
        soundfile.write(folder / f"r{number:02}.wav", babble(0.3 + 0.05 * (number * 7 % 11), seed=number), 16_000)
    (folder / "r11x.wav").write_text("no audio")
    (folder / "r30x.wav").write_bytes(b"")
    return folder


def test_predictions_are_those_of_this_machine(
    head: Any, recordings: Path, small_model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recordings.parent)
    words = ["predict", recordings.name, "--model", str(small_model), "--format", "jsonl"]
    assert cli.main(words) == 1
    local = capfd.readouterr()
    assert cli.main([*words, "--engine", "ray"]) == 1
    spread = capfd.readouterr()
    assert spread.out == local.out
    assert spread.err == local.err
    assert len(local.out.splitlines()) == 40
    assert [line.split(":")[2].strip() for line in local.err.splitlines() if "failed" in line] == [
        f"{recordings.name}/{name}" for name in ("r11x.wav", "r30x.wav")
    ]


def test_shards_keep_their_order_though_a_node_dies(head: Any, nodes: Any, recordings: Path, small_model: Path) -> None:
    node = nodes("affekt.recognition.bulk")
    sources = [str(path) for path in sorted(recordings.iterdir())] * 8
    model = small_model.read_bytes()
    answers = bulk.predict_on_ray(model, "small", sources, shard_recordings=bulk.CHUNK_RECORDINGS)
    got = [next(answers) for _ in range(20)]
    head.remove_node(node, allow_graceful=False)
    got += answers
    expected = list(Recognizer(model, "small", threads=1).predict_many(sources, jobs=1))
    assert [str(answer) for answer in got] == [str(answer) for answer in expected]
    assert got[0] == expected[0]
    assert sum(isinstance(answer, Failure) for answer in got) == 2 * 8


def test_what_a_node_says_of_a_shard(recordings: Path, small_model: Path) -> None:
    """The same function that runs on nodes, in this process; what it refuses is raised where the command was given."""
    model, versions = small_model.read_bytes(), libraries(*bulk.LIBRARIES)
    sources = tuple(str(path) for path in sorted(recordings.iterdir()))
    answers = bulk.recognize(model, "small", sources, {"min_confidence": 0.9}, "/nowhere", versions)
    expected = Recognizer(model, "small", threads=1).predict_many(sources, jobs=1, min_confidence=0.9)
    assert isinstance(answers, list)
    assert [str(answer) for answer in answers] == [str(answer) for answer in expected]
    refused = bulk.recognize(model, "small", sources, {}, "/nowhere", {"numpy": "1.0"})
    with pytest.raises(AffektError, match=r"numpy on node .*: got .*, expected 1\.0, as where the command was given"):
        bulk._answers(Stage({}), refused)
    with pytest.raises(AffektError, match="a shard of recordings: got RayError: it died, expected answers"):
        bulk._answers(Stage({}), Stage.exceptions.RayError("it died"))


# ------------------------------------------------------------------------------------------------------------- server


@pytest.fixture
def serving(head: Any, recordings: Path, small_model: Path) -> Callable[..., Any]:
    """`with serving(replicas=2, predictions=64) as (place, client)`: a server here, its model on the cluster."""
    recognizer = Recognizer(small_model.read_bytes(), "small", threads=1)

    @contextlib.contextmanager
    def run(replicas: int, **limits: Any) -> Iterator[tuple[Deployment, TestClient]]:
        with deployed(recognizer, RayReplicas(replicas=replicas)) as place:
            app = create_app(Replicated(recognizer, place), ServerSettings(limits=Limits(**limits)), place.runs)
            with TestClient(app, base_url="http://127.0.0.1") as client:
                yield place, client

    return run


def running(place: Deployment) -> int:
    from ray import serve

    states = serve.status().applications[place.application].deployments["model"].replica_states
    return states.get("RUNNING", 0)


def replicas_on(node: Any) -> list[int]:
    return children(node, "ServeReplica")


def test_a_server_answers_as_alone_though_replicas_and_nodes_die(
    head: Any, nodes: Any, serving: Any, recordings: Path, small_model: Path
) -> None:
    node = nodes()
    contents = [path.read_bytes() for path in sorted(recordings.glob("r*.wav"))]
    alone = Recognizer(small_model.read_bytes(), "small", threads=1).predict_many(contents, jobs=1)
    expected = [answer.probabilities if isinstance(answer, Prediction) else None for answer in alone]
    with serving(replicas=2) as (place, client), ThreadPoolExecutor(8) as pool:

        def ask(index: int) -> int:
            answer = client.post("/v1/predict", content=contents[index])
            if answer.status_code == 200:
                assert answer.json()["probabilities"] == expected[index]
            elif expected[index] is None:
                assert answer.status_code in (400, 422)  # nothing, or nothing that can be decoded
            else:
                assert answer.status_code in (429, 503)
                assert int(answer.headers["retry-after"]) >= 1
            return answer.status_code

        def asked() -> list[int]:
            return list(pool.map(ask, range(len(contents))))

        calm = asked()
        assert [status == 200 for status in calm] == [answer is not None for answer in expected]
        assert calm.count(200) == 40
        assert [len(replicas_on(each)) for each in (head.head_node, node)] == [1, 1]
        (victim,) = replicas_on(head.head_node)
        storm = pool.map(ask, [*range(len(contents))] * 4)
        next(storm)
        os.kill(victim, signal.SIGKILL)
        assert {*storm} <= {*calm, 429, 503}
        wait_until(lambda: running(place) == 2 and len(replicas_on(head.head_node)) == 1)
        storm = pool.map(ask, [*range(len(contents))] * 4)
        next(storm)
        kill(head, node)
        assert {*storm} <= {*calm, 429, 503}
        assert asked() == calm  # one replica does it alone
        other = nodes()
        wait_until(lambda: len(replicas_on(other)) == 1 and running(place) == 2)
        assert asked() == calm


def test_timelines_and_streams_are_those_of_this_machine(serving: Any, small_model: Path, babble: Any) -> None:
    samples = babble(5.0, seed=3)
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    recognizer = Recognizer(small_model.read_bytes(), "small", threads=1)
    stream_url = "ws://127.0.0.1/v1/stream?encoding=f32le&window_seconds=1"
    with serving(replicas=1) as (_, client):
        timeline = client.post("/v1/timeline", content=file.getvalue()).json()
        with client.websocket_connect(stream_url) as socket:
            socket.send_bytes(samples.tobytes())
            heard = [json.loads(socket.receive_text()) for _ in range(5)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replicas, "PATIENCE_SECONDS", 0.0)
            with client.websocket_connect(stream_url) as socket:
                socket.send_bytes(samples.tobytes())
                refusal, end = json.loads(socket.receive_text()), socket.receive()
            refused = client.post("/v1/timeline", content=file.getvalue())
    local = recognizer.timeline(file.getvalue()).to_dict()
    assert timeline["windows"] == json.loads(json.dumps(local["windows"]))
    stream = recognizer.stream(window_seconds=1.0)
    assert [answer["probabilities"] for answer in heard] == [each.probabilities for each in stream.feed(samples)]
    assert refusal["what"] == "replicas of the model"
    assert end["code"] == CLOSED_FOR_NOW
    assert (refused.status_code, refused.json()["what"]) == (503, "replicas of the model")


def test_a_full_server_and_one_whose_replicas_hang_say_when_to_come_again(
    head: Any, serving: Any, recordings: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (recordings / "r00.wav").read_bytes()
    expected = Recognizer(small_model.read_bytes(), "small", threads=1).predict(content).probabilities
    with serving(replicas=1, predictions=2) as (_, client), ThreadPoolExecutor(2) as pool:
        admission = client.app.state.service.predictions
        (replica,) = replicas_on(head.head_node)
        os.kill(replica, signal.SIGSTOP)
        try:
            waiting = [pool.submit(client.post, "/v1/predict", content=content) for _ in range(2)]
            wait_until(lambda: admission.admitted == 2)
            full = client.post("/v1/predict", content=content)
        finally:
            os.kill(replica, signal.SIGCONT)
        answers = [each.result() for each in waiting]
        monkeypatch.setattr(replicas, "PATIENCE_SECONDS", 0.2)
        os.kill(replica, signal.SIGSTOP)
        try:
            hanging = client.post("/v1/predict", content=content)
        finally:
            os.kill(replica, signal.SIGCONT)
    assert [answer.json()["probabilities"] for answer in answers] == [expected] * 2
    assert (full.status_code, full.json()["what"]) == (429, "predictions")
    assert (hanging.status_code, hanging.json()["what"]) == (503, "replicas of the model")
    assert int(full.headers["retry-after"]) >= 1
    assert int(hanging.headers["retry-after"]) == replicas.RETRY_AFTER_SECONDS


def test_the_command_takes_its_replicas_along_and_those_of_a_killed_one(
    head: Any, run_server: Any, recordings: Path, small_model: Path
) -> None:
    from ray import serve

    content = (recordings / "r00.wav").read_bytes()
    expected = Recognizer(small_model.read_bytes(), "small", threads=1).predict(content).probabilities
    options = ("--engine", "ray", "--ray.address", head.address, "--ray.replicas", "1")

    def ask(url: str) -> Any:
        return httpx.post(f"{url}/v1/predict", content=content, timeout=60).json()["probabilities"]

    with run_server(small_model, *options) as server:
        assert ask(server.url) == expected
        left_behind = list(serve.status().applications)
        server.process.kill()
        server.process.wait()
    assert left_behind == list(serve.status().applications)
    with run_server(small_model, *options, "--workers", "2") as server:  # on the only CPU
        assert ask(server.url) == expected
        assert len(serve.status().applications) == 1
        assert left_behind != list(serve.status().applications)
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert not serve.status().applications


def test_replicas_that_cannot_be_had(head: Any, small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = Recognizer(small_model.read_bytes(), "small", threads=1)
    with pytest.raises(ConfigError, match=r"ray\.replicas: got 9, expected at most 1, one for each CPU of the cluster"):
        deployed(recognizer, RayReplicas(replicas=9)).__enter__()
    monkeypatch.setattr(replicas, "libraries", lambda *names: {"numpy": "1.0"})
    with pytest.raises(AffektError, match=r"replicas of the model: got numpy on node .*: got .*, expected 1\.0"):
        deployed(recognizer, RayReplicas()).__enter__()


# ------------------------------------------------------------------------------------------------------- what is wrong


def test_no_cluster_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(address: str, **options: object) -> None:
            raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setitem(sys.modules, "ray", Nowhere)
    with pytest.raises(ConfigError, match=r"ray\.address: got Could not find .*; start one: `ray start --head`"):
        connected(RayCluster("auto")).__enter__()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    with pytest.raises(ConfigError, match=r"ray\.address: got .*Connection refused, expected a cluster that runs"):
        connected(RayCluster(f"127.0.0.1:{free}")).__enter__()
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    with pytest.raises(ConfigError, match=r"got Ray without ray\.serve, expected Ray .*; pip install 'affekt\[ray\]'"):
        replicas._import_serve()


@pytest.mark.parametrize("verb", ["experiment", "predict", "serve"])
def test_without_the_extra(
    verb: str, bursts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = {
        "experiment": ["experiment", str(bursts / "manifest.csv"), "-o", str(tmp_path / "run"), "--folds", "2"],
        "predict": ["predict", str(bursts)],
        "serve": ["serve", "--port", "0"],
    }
    more = ["--systems", str(bursts / "systems.toml"), "--device", "cpu", "--cache", str(bursts / "cache")]
    assert cli.main([*words[verb], *(more if verb == "experiment" else []), "--engine", "ray"]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if "affekt: note: " not in line]
    assert errors == ["affekt: error: ray is not installed; pip install 'affekt[ray]'"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--timeline", "--engine", "ray"], "engine: got ray with --timeline, expected local: a timeline is one"),
        (["--jobs", "2", "--engine", "ray"], "engine: got ray with --jobs, expected local: a cluster has its own CPUs"),
        (["-", "--engine", "ray"], "paths: got -, which nodes cannot read, expected files"),
        (["--ray.address", "auto"], "ray: got options of a cluster, expected --engine ray with them"),
        (["--engine", "ray", "--ray.attempts", "0"], "ray.attempts: got 0, expected at least 1"),
    ],
)
def test_contradictions(words: list[str], expected: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "a.wav", *words]) == 2
    assert expected in capfd.readouterr().err


def test_contradictions_of_a_server(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--ray.replicas", "2"]) == 2
    assert "ray: got options of a cluster, expected --engine ray with them" in capfd.readouterr().err
    assert cli.main(["serve", "--engine", "ray", "--ray.replicas", "0"]) == 2
    assert "ray.replicas: got 0, expected at least 1" in capfd.readouterr().err


def test_contradictions_of_an_experiment(bursts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["experiment", str(bursts / "manifest.csv"), "-o", str(tmp_path / "run")]
    assert cli.main([*words, "--engine", "ray", "--jobs", "2"]) == 2
    assert "--jobs: got 2 with --engine ray, expected none" in capfd.readouterr().err
    assert cli.main([*words, "--ray.gpus-per-job", "1"]) == 2
    assert "--ray: got options of a cluster, expected --engine ray with them" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [
        ("cuda", 0.0, "device: got cuda with 0 GPUs a job, expected cpu; --ray.gpus-per-job 1, or a fraction"),
        ("cpu", 0.5, "device: got cpu with 0.5 GPUs a job, expected cuda; --device cuda, or auto"),
        ("mps", 0.0, "device: got mps with 0 GPUs a job, expected cpu; --device cpu, or auto"),
    ],
)
def test_the_share_of_a_gpu_decides_about_the_device(
    device: str, gpus: float, expected: str, plan: Any, tmp_path: Path
) -> None:
    experiment = replace(plan(tmp_path / "run"), device=device)
    with pytest.raises(ConfigError) as raised:
        run_on_ray(experiment, experiment.jobs, cluster=RayJobs(gpus_per_job=gpus))
    assert str(raised.value) == expected
    for amount in (-0.5, 1.5):
        with pytest.raises(ConfigError, match="expected 0 to 1, or a whole number"):
            RayJobs(gpus_per_job=amount)


class Played:
    """In the place of Serve: a replica that says what the play has for the first, second, ... call."""

    def __init__(self, *play: Any) -> None:
        self.play, self.cancelled, self.patience = list(play), 0, []
        self.recognize = SimpleNamespace(remote=lambda waveforms: self)

    def result(self, timeout_s: float) -> Any:
        self.patience.append(timeout_s)
        answer = self.play.pop(0)
        if isinstance(answer, Exception) and not isinstance(answer, AffektError):
            raise answer
        return answer

    def cancel(self) -> None:
        self.cancelled += 1


def test_attempts_of_a_batch(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    local = Recognizer(small_model.read_bytes(), "small", threads=1)
    waveforms = [np.full(1_600, 0.1, np.float32)]
    monkeypatch.setattr(ray, "get", lambda content: content)
    answer = Replica(local.content, "small", libraries(*bulk.LIBRARIES)).recognize(waveforms)
    dies, late = ray.exceptions.ActorDiedError(), ray.exceptions.GetTimeoutError()
    monkeypatch.setattr(replicas, "connect", lambda cluster: ray)

    def recognizer(played: Played) -> Replicated:
        monkeypatch.setattr(replicas, "_import_serve", lambda: SimpleNamespace(get_app_handle=lambda name: played))
        return Replicated(local, Deployment("", "affekt-1", replicas=1, attempts=3))

    played = Played(dies, late, answer)
    got = recognizer(played).probabilities(waveforms)
    np.testing.assert_array_equal(got.probabilities, local.probabilities(waveforms).probabilities)
    assert played.cancelled == 2
    assert replicas.PATIENCE_SECONDS >= played.patience[0] > played.patience[1] > played.patience[2] > 0  # one deadline
    with pytest.raises(RequestError, match="replicas of the model: got no answer") as refused:
        recognizer(Played(dies, dies, dies)).predict(waveforms[0], 16_000)
    assert (refused.value.status, refused.value.headers["retry-after"]) == (503, "5")
    defect = ray.exceptions.RayTaskError("f", "trace", ZeroDivisionError()).as_instanceof_cause()
    with pytest.raises(ZeroDivisionError):
        recognizer(Played(defect)).predict(waveforms[0], 16_000)
    with pytest.raises(AffektError, match="model: got answers that are no probabilities"):
        recognizer(Played(AffektError("model", got="answers that are no probabilities"))).probabilities(waveforms)


def test_other_libraries_are_refused() -> None:
    here = libraries("numpy", "torch")
    assert here["numpy"] == np.__version__
    check_libraries(here)
    with pytest.raises(AffektError) as raised:
        check_libraries(here | {"numpy": "1.0", "torch": "0.4"})
    assert [fault.what.split()[0] for fault in raised.value.faults] == ["numpy", "torch"]
    assert raised.value.faults[0].expected == "1.0, as where the command was given"


def test_work_that_no_node_has_room_for() -> None:
    class Small:
        @staticmethod
        def nodes() -> list[dict[str, Any]]:
            return [
                {"Alive": True, "Resources": {"CPU": 4.0}},
                {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0}},
                {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
            ]

    check_room(Small, CPU=4, GPU=0)
    with pytest.raises(ConfigError, match=r"got CPU 4, GPU 1, expected at least CPU 4, GPU 1;"):
        check_room(Small, CPU=4, GPU=1)  # both are there, but not on one node
    assert ray_cluster.LOOPBACK == "127.0.0.1"
