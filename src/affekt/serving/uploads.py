"""A request's body, in memory and within bounds: the raw bytes of a recording, or a form with one file in it."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePosixPath

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from affekt.errors import Fault
from affekt.serving.admission import UploadShare
from affekt.serving.problems import RequestError
from affekt.serving.settings import Limits

EXPECTED = "the bytes of a recording, or a form with one file"
BASELINE = "baseline"
"""Name of the form fields with recordings of the same speaker when calm."""
MOST_BASELINES = 3
LONGEST_NAME = 200


class Upload(io.BytesIO):
    """A recording from a request.

    Attributes:
        name: how messages and logs call it; the client's file name is not logged.
        title: the client's name for it, for the answer alone.
        baseline: recordings of the same speaker when calm, in form fields named `baseline`.
        notes: remarks about the recording, such as a broken-off end, once it has been read.
    """

    name = "recording"
    baseline: tuple[Upload, ...] = ()
    notes: Sequence[str] = ()

    def __init__(self, content: bytes = b"", title: str = "recording") -> None:
        super().__init__(content)
        self.title = title


async def receive_upload(request: Request, limits: Limits, share: UploadShare) -> Upload:
    """The recording in a request's body.

    Args:
        request: unread.
        limits: of size and time.
        share: of the bytes that may be held in memory.

    Raises:
        RequestError: 400 no recording or a broken form, 408 too slow, 413 too large, 429 too many uploads.
        ClientDisconnect: the client has left.
    """
    _check_declared_length(request, limits)
    pieces = _pieces(request, limits, share)
    async with _deadline(limits.body_seconds):
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            upload = await _from_form(request, pieces)
        else:
            upload = Upload()
            async for piece in pieces:
                upload.write(piece)
    if not upload.getbuffer().nbytes:
        raise RequestError.because(400, Fault("body", got="nothing", expected=EXPECTED))
    return upload


def safe_title(name: str | None) -> str:
    """A client's file name as it may be shown: no folders, no control characters, not too long.

    >>> safe_title("C:\\\\calls\\\\a\\r\\n.wav"), safe_title("../../etc/passwd"), safe_title("")
    ('a.wav', 'passwd', 'recording')
    """
    last = PurePosixPath((name or "").replace("\\", "/")).name
    printable = "".join(character for character in last if character.isprintable())
    return printable[-LONGEST_NAME:].strip() or "recording"


class _FormInMemory(MultiPartParser):
    """Starlette's parser, which otherwise moves files to disk from 1 MiB on."""

    spool_max_size = sys.maxsize


async def _from_form(request: Request, pieces: AsyncGenerator[bytes, None]) -> Upload:
    files = 1 + MOST_BASELINES
    parser = _FormInMemory(request.headers, pieces, max_files=files, max_fields=8, max_part_size=2**16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError.because(400, Fault("form", error.message.rstrip("."), EXPECTED)) from error
    parts = [(name, part) for name, part in form.multi_items() if isinstance(part, UploadFile)]
    recordings = [part for name, part in parts if name != BASELINE]
    try:
        if len(recordings) != 1:
            got = f"{len(recordings)} files" if recordings else "no file"
            raise RequestError.because(400, Fault("form", got, EXPECTED, "curl -F file=@call.wav"))
        upload = Upload(recordings[0].file.read(), safe_title(recordings[0].filename))
        upload.baseline = tuple(Upload(part.file.read()) for name, part in parts if name == BASELINE)
        for calm in upload.baseline:
            calm.name = BASELINE
        return upload
    finally:
        await form.close()


async def _pieces(request: Request, limits: Limits, share: UploadShare) -> AsyncGenerator[bytes, None]:
    """The body as it comes, each piece within its time, all of them within the size."""
    received = 0
    while True:
        async with _deadline(limits.idle_seconds):
            message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        received += len(piece)
        if received > limits.body_bytes:
            raise _too_large(f"more than {limits.body_bytes} bytes", limits)
        share.reserve(received)
        yield piece
        if not message.get("more_body", False):
            return


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        got, remedy = f"not all of it within {seconds:g} s", "send faster, or a smaller file"
        raise RequestError.because(408, Fault("body", got, EXPECTED, remedy)) from error


def _check_declared_length(request: Request, limits: Limits) -> None:
    declared = request.headers.get("content-length", "0")
    if re.fullmatch(r"\d+", declared, re.ASCII) and int(declared[:20]) > limits.body_bytes:
        raise _too_large(f"{declared} bytes", limits)


def _too_large(got: str, limits: Limits) -> RequestError:
    remedy = "send a compressed format such as flac, opus or mp3, or a part of it"
    return RequestError.because(413, Fault("body", got, f"at most {limits.body_bytes} bytes", remedy))
