"""`affekt serve`: recognition over HTTP and WebSockets, and a page for people."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from affekt.errors import ConfigError, reason
from affekt.runtime.logs import LogFormat, log_as
from affekt.runtime.ray_cluster import RayReplicas
from affekt.serving.settings import TOKEN_VARIABLE, Limits, ServerSettings


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    model: Path | None = None,
    token_file: Path | None = None,
    open_to_all: bool = False,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    threads: int | None = None,
    workers: int = 1,
    access_log: bool = False,
    log_format: LogFormat = "text",
    limits: Limits | None = None,
    engine: Literal["local", "ray"] = "local",
    ray: RayReplicas | None = None,
    config: Path | None = None,
) -> int:
    """Serve a page and an API that recognize emotions in recordings and live streams.

    The page is at http://127.0.0.1:8000, the API reference at /docs. Audio is kept in memory for the duration of its
    request and is neither stored nor logged. The token that clients must send is read from the environment variable
    AFFEKT_TOKEN or from a file.

    Args:
        host: address to listen on; by default only this machine can connect.
        port: port to listen on; 0 for any free one.
        model: file written by `affekt export`; by default the bundled model.
        token_file: file that holds the token.
        open_to_all: accept connections from other machines without a token.
        hosts: accepted values of the Host header, e.g. the public name behind a proxy.
        origins: origins of other pages that may call the API (CORS), e.g. https://app.example.
        threads: number of recordings recognized at a time; by default one per core.
        workers: number of processes; one that dies is replaced. Limits apply per process.
        access_log: log one line per request.
        log_format: text, or json for one JSON record per line on standard error.
        limits: bounds on sizes, durations and counts, e.g. --limits.body-bytes 1000000.
        engine: local, or ray to run the model on the nodes of a Ray cluster; this machine receives and decodes.
        ray: with `--engine ray`: the cluster and the number of model replicas.
        config: TOML file with values for these options.
    """
    from affekt.serving.run import serve as run_server

    log_as(log_format)
    token = _token(token_file)
    settings = ServerSettings(host, port, model, token, hosts, origins, threads, limits or Limits())
    if not settings.loopback and token is None and not open_to_all:
        remedy = "set AFFEKT_TOKEN, or say --open-to-all where a proxy or firewall checks who comes in"
        raise ConfigError("host", got=f"{host} without a token", expected="a token", remedy=remedy)
    if workers < 1:
        raise ConfigError("workers", got=str(workers), expected="at least 1")
    if ray is not None and engine != "ray":
        raise ConfigError("ray", got="options of a cluster", expected="--engine ray with them")
    run_server(settings, workers, access_log, (ray or RayReplicas()) if engine == "ray" else None)
    return 0


def _token(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        what = str(path) if isinstance(error, FileNotFoundError) else f"token file {path}"
        raise ConfigError(what, got=reason(error), expected="a readable text file") from error
