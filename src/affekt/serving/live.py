"""Live streams over a WebSocket: raw PCM in, a JSON line for every hop out."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Query, WebSocket
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.websockets import WebSocketDisconnect

from affekt.audio.raw import RawGuard
from affekt.errors import AffektError, AudioError, Fault
from affekt.recognition.stream import Stream
from affekt.serving.problems import RequestError, answer, problem
from affekt.serving.service import RecognitionService

Floats = NDArray[np.float32]

END = "end"
"""The text message after a stream's last samples; the rest of the answers and a normal close follow it."""
PIECE_SECONDS = 1.0
"""Longest piece of a stream that is recognized before others have their turn."""
PROTOCOL = "affekt"
CLOSED_NORMALLY, CLOSED_UNSUPPORTED, CLOSED_POLICY = 1000, 1003, 1008  # RFC 6455, section 7.4.1
CLOSED_FOR_NOW = 1013  # "try again later", in IANA's registry


class StreamOptions(BaseModel):
    """The properties of a stream, in the query."""

    rate: Annotated[int, Field(ge=1_000, le=768_000, description="Samples a second, mono")] = 16_000
    encoding: Annotated[Literal["s16le", "f32le"], Field(description="16-bit integers or 32-bit floats")] = "s16le"
    hop_seconds: Annotated[float, Field(ge=0.25, le=60, description="Step between answers")] = 1.0
    window_seconds: Annotated[
        float, Field(ge=0.1, le=60, description="Length of the audio that an answer describes")
    ] = 3.0
    activity: Annotated[str, Field(max_length=20, description="Speech detector: energy, silero or none")] = "energy"
    min_confidence: Annotated[float | None, Field(ge=0, le=1, description="Answers below it are marked unsure")] = None
    adapt: Annotated[bool, Field(description="Adapt to the speaker while listening: one person speaks")] = False


class Pcm:
    """Bytes as they come, to whole samples.

    The first few bytes wait until they show that no media file begins with them.

    >>> pcm = Pcm("s16le")
    >>> pcm.feed(bytes([0, 64] * 7)), pcm.feed(bytes([0, 192] * 2))[6:]
    (array([], dtype=float32), array([ 0.5, -0.5, -0.5], dtype=float32))
    """

    def __init__(self, encoding: str) -> None:
        self._type = np.dtype("<i2" if encoding == "s16le" else "<f4")
        self._scale = np.float32(1 / 32_768 if encoding == "s16le" else 1)
        self._guard = RawGuard()
        self._rest = b""

    def feed(self, message: bytes) -> Floats:
        """The samples that a message completes.

        Raises:
            AudioError: the stream is a media file instead of raw samples.
        """
        joined = self._rest + self._guard.feed(message)
        whole = len(joined) - len(joined) % self._type.itemsize
        self._rest = joined[whole:]
        return np.frombuffer(joined[:whole], self._type).astype(np.float32) * self._scale


async def serve_stream(socket: WebSocket, options: StreamOptions, service: RecognitionService) -> None:
    """Serve one stream from its handshake to its end; a stream that cannot be served is refused by HTTP instead."""
    try:
        with service.streams.slot():
            stream = service.recognizer.stream(
                options.rate,
                options.hop_seconds,
                options.window_seconds,
                options.activity,
                options.min_confidence,
                adapt=options.adapt,
            )
            await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
            await _Live(socket, stream, options, service).listen()
    except WebSocketDisconnect:
        return
    except AffektError as error:
        await socket.send_denial_response(answer(error))


class _Live:
    """An accepted stream."""

    def __init__(self, socket: WebSocket, stream: Stream, options: StreamOptions, service: RecognitionService) -> None:
        self._socket = socket
        self._stream = stream
        self._options = options
        self._service = service
        self._pcm = Pcm(options.encoding)

    async def listen(self) -> None:
        """Answer samples until the client ends, leaves, falls silent or sends anything else."""
        idle_seconds = self._service.limits.stream_idle_seconds
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    message = await self._socket.receive()
            except TimeoutError:
                fault = Fault("stream", f"nothing for {idle_seconds:g} s", f"samples, or the text message {END!r}")
                return await self._part(CLOSED_POLICY, fault)
            if message["type"] == "websocket.disconnect":
                return None
            if message.get("text") == END:
                return await self._socket.close(CLOSED_NORMALLY)
            if message.get("bytes") is None:
                fault = Fault("message", "text", f"binary messages of samples, or the text {END!r}")
                return await self._part(CLOSED_UNSUPPORTED, fault)
            try:
                samples = self._pcm.feed(message["bytes"])
            except AudioError as error:
                return await self._part(CLOSED_UNSUPPORTED, error.faults[0])
            try:
                await self._recognize(samples)
            except RequestError as error:
                return await self._part(CLOSED_FOR_NOW, error.faults[0])

    async def _recognize(self, samples: Floats) -> None:
        """Answer one message; unusable samples give one line, and the stream goes on."""
        rate = self._options.rate
        size = round(PIECE_SECONDS * rate)
        try:
            for start in range(0, len(samples), size):
                piece = samples[start : start + size]
                for prediction in await self._service.feed(self._stream, piece):
                    await self._send(prediction.to_dict())
                self._service.metrics.audio_seconds.labels("/v1/stream").inc(len(piece) / rate)
        except AudioError as error:
            await self._send(problem(error))

    async def _part(self, code: int, fault: Fault) -> None:
        await self._send(problem(RequestError.because(400, fault)))
        await self._socket.close(code, fault.what)

    async def _send(self, value: dict[str, Any]) -> None:
        """Send one line; a client that does not read is disconnected."""
        try:
            async with asyncio.timeout(self._service.limits.stream_idle_seconds):
                await self._socket.send_text(json.dumps(value) + "\n")
        except TimeoutError as error:
            raise WebSocketDisconnect(CLOSED_POLICY) from error


StreamQuery = Annotated[StreamOptions, Query()]
