"""The application on a socket: one process, or several that are replaced when they die."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from contextlib import ExitStack
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from affekt.errors import ConfigError
from affekt.recognition.recognizer import Recognizer
from affekt.runtime.allocator import release_blocks_from
from affekt.runtime.logs import logs_json, say
from affekt.runtime.ray_cluster import RayReplicas
from affekt.serving.access_log import logging_config
from affekt.serving.app import create_app
from affekt.serving.connection import Connection
from affekt.serving.prometheus import shared_by_workers
from affekt.serving.replicas import Deployment, Replicated, deployed
from affekt.serving.settings import TOKEN_VARIABLE, ServerSettings

SETTINGS_VARIABLE = "AFFEKT_SERVE"
REPLICAS_VARIABLE = "AFFEKT_REPLICAS"
ACCESS_LOG_VARIABLE = "AFFEKT_ACCESS_LOG"
LARGEST_HEAD_BYTES = 2**16
PING_SECONDS = 20.0
LARGE_BYTES = 2**20  # uploads, which are not to stay


def serve(
    settings: ServerSettings, workers: int = 1, access_log: bool = False, cluster: RayReplicas | None = None
) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is in flight.

    Args:
        settings: what to serve, where, to whom.
        workers: processes, each with the settings' limits for itself.
        access_log: log one line per request on standard error.
        cluster: the Ray cluster that runs the model; None: each process runs it.

    Raises:
        CheckpointError: no model, or none of ours.
        ConfigError: an address that cannot be listened at, or a cluster that cannot be used.
    """
    recognizer = Recognizer.load(settings.model, threads=1)
    listener = listen(settings.host, settings.port)
    with ExitStack() as stack:
        place = stack.enter_context(deployed(recognizer, cluster)) if cluster else None
        if place:
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # uvicorn sends it on at its end
        announce(settings, listener, recognizer)
        if workers == 1:
            make_server(_app(recognizer, settings, place, access_log), settings, access_log).run(sockets=[listener])
        else:
            _serve_with_workers(settings, listener, workers, access_log, place)


def make_server(app: FastAPI, settings: ServerSettings, access_log: bool = False) -> uvicorn.Server:
    """uvicorn with the settings' limits."""
    return uvicorn.Server(_config(app, settings, access_log))


def app_from_environment() -> FastAPI:
    """The application of a worker process."""
    settings = ServerSettings.from_json(os.environ[SETTINGS_VARIABLE], os.environ[TOKEN_VARIABLE] or None)
    place = os.environ.get(REPLICAS_VARIABLE)
    recognizer = Recognizer.load(settings.model, threads=1)
    handler = signal.getsignal(signal.SIGTERM)  # uvicorn's, which Ray would replace
    access_log = bool(os.environ.get(ACCESS_LOG_VARIABLE))
    app = _app(recognizer, settings, Deployment.from_json(place) if place else None, access_log)
    signal.signal(signal.SIGTERM, handler)
    return app


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: an unknown host, a port in use or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=1_024)
    except OSError as error:
        remedy = f"another port: --port {port + 1}" if 0 < port < 65_535 else ""
        raise ConfigError(f"listen at {host}:{port}", got=error.strerror or str(error), remedy=remedy) from error
    listener = socket.socket(fileno=listener.detach())  # one that knows it is TCP: asyncio then sends without delay
    listener.set_inheritable(True)
    return listener


def announce(settings: ServerSettings, listener: socket.socket, recognizer: Recognizer) -> None:
    """Say where it listens, and to whom."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    reach = "this machine only" if settings.loopback else "any machine that can reach it"
    key = "with the token" if settings.token else "without a token"
    if logs_json():
        facts = {"url": url, "reach": reach, "token": settings.token is not None, "labels": recognizer.labels}
        say("listening", logging.INFO, **facts)
        return
    print(f"affekt: listening at {url} for {reach}, {key}; API: {url}/docs; stop with Ctrl-C", flush=True)
    print(f"affekt: labels: {', '.join(recognizer.labels)}", flush=True)


def _app(recognizer: Recognizer, settings: ServerSettings, place: Deployment | None, access_log: bool) -> FastAPI:
    release_blocks_from(LARGE_BYTES)
    if place is None:
        return create_app(recognizer, settings, access_log=access_log)
    return create_app(Replicated(recognizer, place), settings, place.runs, access_log)


def _serve_with_workers(
    settings: ServerSettings, listener: socket.socket, workers: int, access_log: bool, place: Deployment | None
) -> None:
    os.environ[SETTINGS_VARIABLE] = settings.to_json()
    os.environ[TOKEN_VARIABLE] = settings.token or ""
    os.environ[REPLICAS_VARIABLE] = place.to_json() if place else ""
    os.environ[ACCESS_LOG_VARIABLE] = "1" if access_log else ""
    factory = f"{__name__}:app_from_environment"
    config = _config(factory, settings, access_log, factory=True, workers=workers)
    with shared_by_workers():
        Multiprocess(config, sockets=[listener]).run()


def _config(app: Any, settings: ServerSettings, access_log: bool, **options: Any) -> uvicorn.Config:
    limits = settings.limits
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        loop="asyncio",  # and not another one if that happens to be installed
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=limits.stream_message_bytes,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,  # samples do not shrink, and a bomb cannot grow
        lifespan="on",
        log_config=logging_config(access_log),
        log_level="error",
        access_log=False,  # see access_log.py
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=limits.shutdown_seconds,
        h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
        **options,
    )
