"""The application: the paths of the API and their connection to the recognition service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from affekt import __version__
from affekt.errors import AffektError, Fault
from affekt.recognition.formats import FORMATS
from affekt.recognition.formats.picture import envelope
from affekt.recognition.recognizer import Recognizer
from affekt.recognition.timeline import Timeline, TimelineConfig
from affekt.runtime.cpu_affinity import available_cores
from affekt.serving import schemas
from affekt.serving.access_control import AccessControl
from affekt.serving.admission import AdmissionControl
from affekt.serving.assets import add_assets
from affekt.serving.documentation import add_documentation
from affekt.serving.event_loop_lag import EventLoopLag
from affekt.serving.live import StreamQuery, serve_stream
from affekt.serving.problems import RequestError, answer
from affekt.serving.prometheus import CONTENT_TYPE, Metrics
from affekt.serving.service import RecognitionService
from affekt.serving.settings import ServerSettings
from affekt.serving.uploads import Upload, receive_upload

Result = TypeVar("Result")

CLIENT_LEFT = 499
"""Status in metrics and logs for a client that disconnected, as in nginx; never sent."""
TEXT_FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "audacity": "text/plain; charset=utf-8",
    "textgrid": "text/plain; charset=utf-8",
    "rttm": "text/plain; charset=utf-8",
    "html": "text/html; charset=utf-8",
}
"""Timelines as files. They are sent as attachments: no browser shows them as pages of this server."""
DESCRIPTION = (
    "Speech emotion recognition for recordings and live streams: calibrated probabilities, *unsure* below a threshold."
)


class PredictOptions(BaseModel):
    """Options of a prediction."""

    min_confidence: Annotated[
        float | None,
        Field(ge=0, le=1, description="Answers below it are marked unsure; by default the model's threshold"),
    ] = None


class TimelineOptions(PredictOptions):
    """Options of a timeline."""

    window_seconds: Annotated[float | None, Field(ge=0.1, le=60, description="Length of a window")] = None
    hop_seconds: Annotated[float | None, Field(ge=0.1, le=60, description="Step between windows")] = None
    activity: Annotated[str, Field(max_length=20, description="Voice activity detector: energy, silero or none")] = (
        "energy"
    )
    format: Annotated[
        Literal["json", "csv", "audacity", "textgrid", "rttm", "html"], Field(description="Format of the answer")
    ] = "json"
    include: Annotated[
        list[Literal["envelope", "csv", "audacity", "textgrid", "rttm"]],
        Field(max_length=5, description="With json: also the waveform's envelope and these formats as text"),
    ] = []


def create_app(
    recognizer: Recognizer, settings: ServerSettings, runs: int | None = None, access_log: bool = False
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        recognizer: loaded with one thread; the service runs it in as many threads as the settings state.
        settings: limits, token, names. The address to listen on is the caller's task.
        runs: batches that the model works on in parallel if it runs on other machines; by default one per thread.
        access_log: log one line per request, see :mod:`affekt.serving.access_log`.
    """
    metrics = Metrics()
    threads = settings.threads or available_cores()
    service = RecognitionService(recognizer, threads, runs or threads, settings.limits, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        lag = EventLoopLag()
        measuring = asyncio.create_task(lag.measure())
        yield {"limits": settings.limits, "closing": set(), "lag": lag}
        measuring.cancel()
        service.close()

    app = FastAPI(
        title="affekt", version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = service
    _add_recognition(app, service)
    _add_stream(app, service)
    _add_facts(app, service)
    add_documentation(app)
    add_assets(app)
    _add_errors(app)
    admissions = {"/v1/predict": service.predictions, "/v1/timeline": service.timelines}
    app.add_middleware(
        AccessControl,
        settings=settings,
        metrics=metrics,
        admissions=admissions,
        model=recognizer.identity,
        access_log=access_log,
    )
    if settings.origins:
        headers = ["authorization", "content-type"]
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=["*"], allow_headers=headers)
    return app


def _add_recognition(app: FastAPI, service: RecognitionService) -> None:
    upload: dict[str, Any] = {"openapi_extra": schemas.UPLOAD}

    @app.post(
        "/v1/predict",
        response_model=schemas.PredictionAnswer,
        summary="The emotion of a recording",
        responses=schemas.PREDICTION,
        **upload,
    )
    async def predict(
        request: Request,
        options: Annotated[PredictOptions, Query()],
        first: Annotated[bool, Query(description="Only the first clip, not the whole recording")] = False,
    ) -> JSONResponse:
        """One answer for a whole recording; with `first`, for its first clip (see `/v1/model`).

        Send the file's bytes as the body, or a form with one file in it. Up to three further form fields `baseline` may
        hold recordings of the same speaker when calm; the answer is then adapted to this voice.
        """

        async def work(upload: Upload) -> JSONResponse:
            prediction = await service.predict(upload, options.min_confidence, first)
            return JSONResponse(prediction.to_dict() | _notes(upload))

        return await _with_upload(request, service, service.predictions, work)

    @app.post(
        "/v1/timeline",
        response_model=schemas.TimelineAnswer,
        summary="Emotion over time",
        responses=schemas.TIMELINE,
        **upload,
    )
    async def timeline(request: Request, options: Annotated[TimelineOptions, Query()]) -> Response:
        """Windows and segments of a recording of any length. Formats other than json are sent as files."""
        config = TimelineConfig(options.window_seconds, options.hop_seconds, options.activity)
        config.resolved(service.recognizer.card)

        async def work(upload: Upload) -> Response:
            render = _renderer(options, upload)
            return await service.timeline(upload, options.min_confidence, config, render)

        return await _with_upload(request, service, service.timelines, work)


async def _with_upload(
    request: Request,
    service: RecognitionService,
    admission: AdmissionControl,
    work: Callable[[Upload], Coroutine[Any, Any, Result]],
) -> Result:
    """Receive a recording and work on it in a slot of the admission control, for as long as the client waits.

    The slot is taken once the whole body has arrived; before, it is only reserved for a moment, so that slow clients
    block nobody.
    """
    with service.uploads.share() as share:
        with admission.reserved():
            upload = await receive_upload(request, service.limits, share)
        with admission.slot():
            return await _while_connected(request, work(upload))


async def _while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of some work, which is cancelled when the client disconnects."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()


def _notes(upload: Upload) -> dict[str, Any]:
    """Remarks about a recording, where there are any."""
    return {"notes": list(upload.notes)} if upload.notes else {}


def _renderer(options: TimelineOptions, upload: Upload) -> Callable[[Timeline], Response]:
    def to_file(timeline: Timeline) -> Response:
        known = FORMATS[options.format]
        headers = {"content-disposition": f'attachment; filename="timeline{known.suffix}"'}
        return Response(known.render(timeline), media_type=TEXT_FORMATS[options.format], headers=headers)

    def to_json(timeline: Timeline) -> Response:
        body = timeline.to_dict() | _notes(upload)
        if "envelope" in options.include:
            seconds, peaks = envelope(timeline)
            body["envelope"] = {"starts_seconds": seconds.round(3).tolist(), "peaks": peaks.round(4).tolist()}
        names = [name for name in options.include if name in FORMATS]
        body["files"] = {name: FORMATS[name].render(timeline) for name in names}
        return JSONResponse(body)

    return to_json if options.format == "json" else to_file


def _add_stream(app: FastAPI, service: RecognitionService) -> None:
    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket, options: StreamQuery) -> None:
        await serve_stream(socket, options, service)


def _add_facts(app: FastAPI, service: RecognitionService) -> None:
    @app.get(
        "/v1/model",
        response_model=schemas.ModelAnswer,
        summary="Model card and server limits",
        responses=schemas.MODEL,
    )
    async def model() -> JSONResponse:
        """The model card (training data, measures, intended use) and the limits of this server."""
        limits = service.limits
        taken = {
            "body_bytes": limits.body_bytes,
            "timeline_seconds": limits.timeline_seconds,
            "predictions": limits.predictions,
            "timelines": limits.timelines,
            "streams": limits.streams,
        }
        card = service.recognizer.card.to_readable()
        return JSONResponse({"model": service.recognizer.identity, "card": card, "limits": taken})

    @app.get("/healthz", summary="Liveness of the process")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Whether the server accepts more work", responses=schemas.NOT_READY)
    async def readyz() -> dict[str, str]:
        service.predictions.check(status=503)
        return {"status": "ready"}

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(AffektError)
    async def refused(_: Request, error: AffektError) -> Response:
        return answer(error)

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(RequestValidationError)
    async def unusable(_: Request, error: RequestValidationError) -> Response:
        return answer(_query_refusal(error.errors()))

    @app.exception_handler(WebSocketRequestValidationError)
    async def unusable_stream(socket: WebSocket, error: WebSocketRequestValidationError) -> None:
        await socket.send_denial_response(answer(_query_refusal(error.errors())))

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        got, paths = f"{request.method} {request.url.path}", ", ".join(sorted(app.openapi()["paths"]))
        fault = Fault("request", got, f"one of {paths}" if error.status_code == 404 else error.detail, "see /docs")
        return answer(RequestError.because(error.status_code, fault, headers=error.headers))


def _query_refusal(errors: Any) -> RequestError:
    """All faults of a query, from pydantic's list."""
    faults = [
        Fault(f"query: {error['loc'][-1]}", json.dumps(error.get("input"), default=str)[:100], error["msg"])
        for error in errors
    ]
    return RequestError.because(422, *faults)
