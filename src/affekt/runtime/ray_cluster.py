"""Connection to a Ray cluster, and checks that its nodes give the same numbers as this machine.

Ray is imported on first use. Its usage statistics are off unless `RAY_USAGE_STATS_ENABLED` is set.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from affekt import __version__
from affekt.errors import AffektError, ConfigError, Fault
from affekt.runtime.environment import version

LOOPBACK = "127.0.0.1"
KNOCK_SECONDS = 10.0


@dataclass(frozen=True)
class RayCluster:
    """Address of a Ray cluster, and retries.

    Attributes:
        address: address of the head node, e.g. 10.0.0.1:6379; `auto` for the cluster that this machine belongs to;
            `local` for a new one on this machine. By default Ray searches for one and else starts one here.
        attempts: number of attempts at a task whose node or process fails.

    Raises:
        ConfigError: fewer than one attempt.
    """

    address: str | None = None
    attempts: int = 3

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError("ray.attempts", got=str(self.attempts), expected="at least 1")


@dataclass(frozen=True)
class RayJobs(RayCluster):
    """Resources of the jobs on a cluster; each has as many CPUs as threads.

    Attributes:
        gpus_per_job: share of a GPU per job; 0.25 puts four jobs on one GPU, 0 uses CPUs.
        state_seconds: interval at which a job's state is sent back; after a failure it continues from there.

    Raises:
        ConfigError: an amount of GPUs that Ray cannot give.
    """

    gpus_per_job: float = 0.0
    state_seconds: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        gpus = self.gpus_per_job
        if not (0 <= gpus <= 1 or gpus == int(gpus) > 0):
            raise ConfigError("ray.gpus-per-job", got=f"{gpus:g}", expected="0 to 1, or a whole number")


@dataclass(frozen=True)
class RayReplicas(RayCluster):
    """Replicas of the model on a cluster.

    Attributes:
        replicas: number of replicas, with one CPU each; by default one per free CPU.

    Raises:
        ConfigError: fewer than one attempt or replica.
    """

    replicas: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replicas is not None and self.replicas < 1:
            raise ConfigError("ray.replicas", got=str(self.replicas), expected="at least 1")


@contextmanager
def connected(cluster: RayCluster) -> Iterator[Any]:
    """The module `ray`, connected inside the block; an existing connection is kept.

    Raises:
        ConfigError: no cluster at that address.
    """
    ray = _import_ray()
    ours = not ray.is_initialized()
    connect(cluster)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def connect(cluster: RayCluster) -> Any:
    """The module `ray`, connected until this process ends; an existing connection is kept.

    Raises:
        ConfigError: no cluster at that address.
    """
    ray = _import_ray()
    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.address == "local":
        options["_node_ip_address"] = LOOPBACK
    try:
        _knock(cluster.address or "")
        ray.init(cluster.address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        got = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "start one: `ray start --head` here, `ray start --address HEAD:6379` on the other nodes"
        raise ConfigError("ray.address", got=got, expected="a cluster that runs", remedy=remedy) from error
    return ray


def _knock(address: str) -> None:
    """Fail at once if nothing listens at the address; Ray would retry for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    return ray


def check_room(ray: Any, **needed: float) -> None:
    """Refuse tasks that no node can ever run, for which Ray would wait forever.

    Args:
        ray: the connected module.
        needed: resources of each task by Ray's name: CPU, GPU.

    Raises:
        ConfigError: no node is large enough.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in needed.items()) for node in nodes):
        largest = ", ".join(f"{name} {max(node.get(name, 0) for node in nodes):g}" for name in needed)
        expected = ", ".join(f"{name} {amount:g}" for name, amount in needed.items())
        remedy = "start a node that has it, or ask for less"
        raise ConfigError("ray: the largest node", got=largest, expected=f"at least {expected}", remedy=remedy)


def libraries(*names: str) -> dict[str, str]:
    """Versions of affekt and of distributions that can change numbers."""
    return {"affekt": __version__} | {name: version(name) for name in names}


def check_libraries(expected: Mapping[str, str]) -> None:
    """Refuse library versions other than the driver's, on a node.

    Raises:
        AffektError: every library whose version differs.
    """
    here = libraries(*(name for name in expected if name != "affekt"))
    remedy = "install the same on every node: pip install -c constraints.txt"
    node = socket.gethostname()
    faults = [
        Fault(f"{name} on node {node}", here[name], f"{version}, as where the command was given", remedy)
        for name, version in expected.items()
        if here[name] != version
    ]
    if faults:
        raise AffektError.of(faults)
