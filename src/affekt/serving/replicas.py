"""The model on several machines: replicas on a Ray cluster, managed by Ray Serve, which replaces those that die.

The HTTP server itself stays on its machine, with limits, token and page. It receives and decodes recordings and sends
samples to the replicas, in batches of at most half a minute that nodes hold in memory only while they work on them. The
batches are those of a local server, and so are the answers, bit for bit. A batch whose replica dies is sent to another
one. Ray Serve's own HTTP proxy is disabled: no node listens for clients.
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
"""Prefix of our applications' names on a cluster; the rest is the driver's job id."""
RUNS_PER_REPLICA = 2
"""Batches that a replica holds at a time: one is recognized while the next one arrives."""
PATIENCE_SECONDS = 30.0
"""Timeout of a batch, over all attempts."""
START_SECONDS = 120.0
"""Timeout for all replicas to start."""
HEALTH_SECONDS = 1.0
"""Period of the health checks."""
POLL_SECONDS = 0.2
QUIET = {"log_level": "ERROR", "enable_access_log": False}
"""Logging of Ray Serve, in files on the nodes."""
RETRY_AFTER_SECONDS = 5


class Replica:
    """The model on a node. It knows nothing about the clients.

    Args:
        model: reference to the file in Ray's object store, which holds it once per node.
        name: of the model in messages.
        versions: of the libraries on the server's machine.
    """

    def __init__(self, model: Any, name: str, versions: Mapping[str, str]) -> None:
        import ray

        check_libraries(versions)
        self._recognizer = Recognizer(ray.get(model), name, threads=1)

    def recognize(self, waveforms: Sequence[Floats]) -> Recognized | AffektError:
        """The model's answers. An error is returned: Ray would wrap one that is raised."""
        try:
            return self._recognizer.probabilities(waveforms)
        except AffektError as error:
            return error


@dataclass(frozen=True)
class Deployment:
    """Running replicas, as a worker process finds them.

    Attributes:
        address: of the cluster.
        application: their name on the cluster.
        replicas: their number.
        attempts: per batch, if its replica dies each time.
    """

    address: str
    application: str
    replicas: int
    attempts: int

    @property
    def runs(self) -> int:
        """Batches to send in parallel."""
        return RUNS_PER_REPLICA * self.replicas

    def to_json(self) -> str:
        """Write the settings as text, for a worker process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text of :meth:`to_json`."""
        return cls(**json.loads(text))


class Replicated(Recognizer):
    """A recognizer that decodes locally and runs its model on replicas. This process stays connected to the cluster."""

    def __init__(self, recognizer: Recognizer, deployment: Deployment) -> None:
        super().__init__(recognizer.content, recognizer.name, threads=1)
        self._ray = connect(RayCluster(deployment.address))
        self._model = _import_serve().get_app_handle(deployment.application)
        self._attempts = deployment.attempts

    def probabilities(self, waveforms: Sequence[Floats]) -> Recognized:
        """The answers of the first free replica.

        Raises:
            RequestError: 503, no replica answered.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        for _ in range(self._attempts):
            answer = self._attempt(waveforms, deadline - time.monotonic())
            if isinstance(answer, AffektError):
                raise answer
            if answer is not None:
                return self._shifted(answer)
        got, remedy = "no answer: they died or are overloaded", f"retry after {RETRY_AFTER_SECONDS} s"
        raise RequestError.busy(Fault("replicas of the model", got, remedy=remedy), RETRY_AFTER_SECONDS, status=503)

    _beside_others = probabilities

    def _attempt(self, waveforms: Sequence[Floats], seconds: float) -> Recognized | AffektError | None:
        """The answer of one replica; None if it died or timed out. An internal error is raised."""
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
        model = ray.put(recognizer.content)  # kept as long as this reference
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
    """The number of replicas to start.

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
        AffektError: they fail or do not start in time.
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
            raise _not_started(f"not all {place.replicas} after {START_SECONDS:g} s", "check the load of the cluster")
        time.sleep(POLL_SECONDS)


def _all_there(serve: Any, place: Deployment) -> bool:
    application = serve.status().applications[place.application]
    if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
        messages = [deployment.message for deployment in application.deployments.values()]
        raise _not_started(_reason("\n".join(messages)), "check that all nodes have the same packages")
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
    """Delete the applications of servers that were killed: their replicas would keep their CPUs."""
    alive = {job["JobID"] for job in ray._private.state.jobs() if not job["IsDead"]}
    for name in serve.status().applications:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in alive:
            _leave(ray, serve, name)


def _leave(ray: Any, serve: Any, application: str) -> None:
    """Delete the replicas. Ray Serve itself keeps running, as others may use it."""
    from ray.serve.exceptions import RayServeException

    with suppress(ray.exceptions.RayError, RayServeException):  # the cluster may be gone
        serve.delete(application)
