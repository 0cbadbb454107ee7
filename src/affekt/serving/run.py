"""The application on a socket: one process, or several that are replaced when they die."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from affekt.errors import ConfigError
from affekt.inference import Recognizer
from affekt.logs import logs_json, say, uvicorn_config
from affekt.serving.app import create_app
from affekt.serving.connection import Connection
from affekt.serving.settings import Settings

SETTINGS_VARIABLE = "AFFEKT_SERVE"
TOKEN_VARIABLE = "AFFEKT_TOKEN"
LARGEST_HEAD_BYTES = 2**16
PING_SECONDS = 20.0


def serve(settings: Settings, workers: int = 1, access_log: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is in flight.

    Args:
        settings: what to serve, where, to whom.
        workers: processes, each with the settings' limits for itself.
        access_log: a line on standard error for each request: address, path and status.

    Raises:
        CheckpointError: no model, or none of ours.
        ConfigError: an address that cannot be listened at.
    """
    recognizer = Recognizer.load(settings.model, threads=1)
    listener = listen(settings.host, settings.port)
    announce(settings, listener, recognizer)
    if workers == 1:
        make_server(create_app(recognizer, settings), settings, access_log).run(sockets=[listener])
    else:
        os.environ[SETTINGS_VARIABLE] = settings.to_json()
        os.environ[TOKEN_VARIABLE] = settings.token or ""
        factory = f"{__name__}:app_from_environment"
        config = _config(factory, settings, access_log, factory=True, workers=workers)
        Multiprocess(config, sockets=[listener]).run()


def make_server(app: FastAPI, settings: Settings, access_log: bool = False) -> uvicorn.Server:
    """uvicorn with the settings' limits."""
    return uvicorn.Server(_config(app, settings, access_log))


def app_from_environment() -> FastAPI:
    """The application of a worker process."""
    settings = Settings.from_json(os.environ[SETTINGS_VARIABLE], os.environ[TOKEN_VARIABLE] or None)
    return create_app(Recognizer.load(settings.model, threads=1), settings)


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
    listener.set_inheritable(True)
    return listener


def announce(settings: Settings, listener: socket.socket, recognizer: Recognizer) -> None:
    """Say where it listens, and to whom."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    reach = "this machine alone" if settings.loopback else "whoever can reach it"
    key = "with the token" if settings.token else "without a token"
    if logs_json():
        facts = {"url": url, "reach": reach, "token": settings.token is not None, "labels": recognizer.labels}
        say("listening", logging.INFO, **facts)
        return
    print(f"affekt: listening at {url} for {reach}, {key}; API: {url}/docs; Ctrl-C stops it", flush=True)
    print(f"affekt: labels: {', '.join(recognizer.labels)}", flush=True)


def _config(app: Any, settings: Settings, access_log: bool, **options: Any) -> uvicorn.Config:
    limits = settings.limits
    if logs_json():
        options["log_config"] = uvicorn_config()
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=limits.stream_message_bytes,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,  # samples do not shrink, and a bomb cannot grow
        lifespan="on",
        log_level="info" if access_log else "error",
        access_log=access_log,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=limits.shutdown_seconds,
        h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
        **options,
    )
