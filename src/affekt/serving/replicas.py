"""The model on many machines: replicas of it on a Ray cluster, by Ray Serve, which replaces those that die.

The server stays where it is, with its limits, its token and its page. It takes recordings in and decodes them; only
samples travel, in batches of half a minute at most, which nodes hold in memory while they work on them. The batches are
those that the server would run by itself, and so are the answers, bit for bit. A batch whose replica dies goes to
another one. Serve's own way in is closed: no node listens for clients.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from affekt.errors import AffektError, ConfigError, Fault
from affekt.recognition.bulk import LIBRARIES
from affekt.recognition.prediction import Recognized
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.ray_cluster import (
    RayCluster,
    RayReplicas,
    check_libraries,
    check_room,
    connect,
    connected,
    libraries,
)
from affekt.serving.problems import RequestError

Floats = NDArray[np.float32]

PREFIX = "affekt-"
"""Of the names of our applications on a cluster; the rest is the driver's job there."""
RUNS_PER_REPLICA = 2
"""Batches that a replica has at a time: while one is recognized, the next one is on its way."""
PATIENCE_SECONDS = 30.0
"""For the answer to a batch, from whichever replica."""
START_SECONDS = 120.0
"""For all replicas to be there."""
HEALTH_SECONDS = 1.0
"""How often Serve looks whether a replica is alive."""
POLL_SECONDS = 0.2
QUIET = {"log_level": "ERROR", "enable_access_log": False}
"""What Serve logs, in files on the nodes."""
RETRY_AFTER_SECONDS = 5


class Replica:
    """On a node: the model, and nothing of who asks.

    Args:
        model: where Ray's object store has its file, once on each node however many replicas are there.
        name: how messages name it.
        versions: of the libraries where the command was given.
    """

    def __init__(self, model: Any, name: str, versions: Mapping[str, str]) -> None:
        import ray

        check_libraries(versions)
        self._recognizer = Recognizer(ray.get(model), name, threads=1)

    def recognize(self, waveforms: Sequence[Floats]) -> Recognized | AffektError:
        """The model's answers; an error is given back, since one that is raised would be wrapped."""
        try:
            return self._recognizer.probabilities(waveforms)
        except AffektError as error:
            return error


@dataclass(frozen=True)
class Deployment:
    """Replicas that are there, as any process finds them.

    Attributes:
        address: of the cluster.
        application: their name on it.
        replicas: how many there should be.
        attempts: that a batch has, if its replica dies each time.
    """

    address: str
    application: str
    replicas: int
    attempts: int

    @property
    def runs(self) -> int:
        """Batches that are worth sending at a time."""
        return RUNS_PER_REPLICA * self.replicas

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


class Replicated(Recognizer):
    """A recognizer that decodes here and runs its model on replicas; this process stays connected to the cluster."""

    def __init__(self, recognizer: Recognizer, deployment: Deployment) -> None:
        super().__init__(recognizer.content, recognizer.name, threads=1)
        self._ray = connect(RayCluster(deployment.address))
        self._model = _import_serve().get_app_handle(deployment.application)
        self._attempts = deployment.attempts

    def probabilities(self, waveforms: Sequence[Floats]) -> Recognized:
        """The answers of whichever replica has time.

        Raises:
            RequestError: 503, no replica answered.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        for _ in range(self._attempts):
            answer = self._attempt(waveforms, deadline - time.monotonic())
            if isinstance(answer, AffektError):
                raise answer
            if answer is not None:
                return answer
        got, remedy = "no answer: they died, or have too much to do", f"come again in {RETRY_AFTER_SECONDS} s"
        raise RequestError.busy(Fault("replicas of the model", got, remedy=remedy), RETRY_AFTER_SECONDS, status=503)

    _beside_others = probabilities

    def _attempt(self, waveforms: Sequence[Floats], seconds: float) -> Recognized | AffektError | None:
        """What one replica says, None if it died or has not answered in time; a defect of ours is raised."""
        from ray.serve.exceptions import RayServeException

        response = self._model.recognize.remote(waveforms)
        try:
            answer: Recognized | AffektError = response.result(timeout_s=max(0.0, seconds))
        except self._ray.exceptions.RayTaskError:
            raise
        except (self._ray.exceptions.RayError, RayServeException, TimeoutError):
            response.cancel()
            return None
        return answer


@contextmanager
def deployed(recognizer: Recognizer, cluster: RayReplicas) -> Iterator[Deployment]:
    """Replicas of a recognizer's model on a cluster, for as long as the context lasts.

    Raises:
        ConfigError: no such cluster, or no room on it.
        AffektError: replicas that do not start, such as for other libraries on their nodes.
    """
    with connected(cluster) as ray:
        serve = _import_serve()
        count = _count(ray, cluster.replicas)
        context = ray.get_runtime_context()
        place = Deployment(context.gcs_address, PREFIX + context.get_job_id(), count, cluster.attempts)
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        _sweep(ray, serve)
        model = ray.put(recognizer.content)  # which stays there as long as this name does
        try:
            _deploy(serve, place, (model, recognizer.name, libraries(*LIBRARIES)))
            yield place
        finally:
            _leave(ray, serve, place.application)


def _import_serve() -> Any:
    try:
        serve = import_module("ray.serve")
    except ModuleNotFoundError as error:
        remedy = "pip install 'affekt[ray]'"
        got, expected = f"Ray without {error.name}", "Ray with Ray Serve"
        raise ConfigError("engine", got=got, expected=expected, remedy=remedy) from error
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return serve


def _count(ray: Any, wanted: int | None) -> int:
    """How many replicas there are to be.

    Raises:
        ConfigError: more than the cluster could ever hold.
    """
    check_room(ray, CPU=1)
    most = sum(math.floor(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    if wanted is not None and wanted > most:
        expected, remedy = f"at most {most}, one for each CPU of the cluster", f"start more nodes, or ask for {most}"
        raise ConfigError("ray.replicas", got=str(wanted), expected=expected, remedy=remedy)
    return wanted or max(1, math.floor(ray.available_resources().get("CPU", 0)))


def _deploy(serve: Any, place: Deployment, arguments: tuple[Any, ...]) -> None:
    """Start all replicas and wait for them.

    Raises:
        AffektError: they fail, or do not come.
    """
    model = serve.deployment(
        Replica,
        name="model",
        num_replicas=place.replicas,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=2 * RUNS_PER_REPLICA,  # of predictions, and as many of timelines
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_wait_loop_s=POLL_SECONDS,
        graceful_shutdown_timeout_s=PATIENCE_SECONDS,
        max_constructor_retry_count=3,
        logging_config=QUIET,
    )
    target = serve.RunTarget(model.bind(*arguments), name=place.application, route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)
    deadline = time.monotonic() + START_SECONDS
    while not _all_there(serve, place):
        if time.monotonic() > deadline:
            raise _not_started(f"not all {place.replicas} after {START_SECONDS:g} s", "is the cluster at work?")
        time.sleep(POLL_SECONDS)


def _all_there(serve: Any, place: Deployment) -> bool:
    application = serve.status().applications[place.application]
    if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
        messages = [deployment.message for deployment in application.deployments.values()]
        raise _not_started(_reason("\n".join(messages)), "are all nodes installed alike?")
    return bool(application.status == "RUNNING")


def _not_started(got: str, remedy: str) -> AffektError:
    return AffektError("ray: replicas of the model", got=got, expected="all of them running", remedy=remedy)


def _reason(message: str) -> str:
    """The last error of a traceback, without its type.

    >>> _reason("failed to start: Traceback\\n  in f\\naffekt.errors.AffektError: numpy on node a: got 1.0\\n")
    'numpy on node a: got 1.0'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    errors = [line.partition("Error: ")[2] for line in lines if "Error: " in line]
    return (errors or lines)[-1][:300]


def _sweep(ray: Any, serve: Any) -> None:
    """Take away what servers left behind that were killed: their replicas would hold their CPUs for ever."""
    alive = {job["JobID"] for job in ray._private.state.jobs() if not job["IsDead"]}
    for name in serve.status().applications:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in alive:
            _leave(ray, serve, name)


def _leave(ray: Any, serve: Any, application: str) -> None:
    """Take replicas away; Serve itself stays, it may be somebody else's as well."""
    from ray.serve.exceptions import RayServeException

    with suppress(ray.exceptions.RayError, RayServeException):  # the cluster may be gone, and they with it
        serve.delete(application)
