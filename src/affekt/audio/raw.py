"""Raw samples: refuse a stream that is a media file instead.

The bytes of a file, taken for 16-bit samples, sound like loud noise, and a model answers that too.
"""

from __future__ import annotations

from affekt.audio.signatures import BEGINNING_BYTES, HELD_BYTES, Kind, kind_of
from affekt.errors import AudioError

REMEDY = "decode it first: ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -"


class RawGuard:
    """Pass the bytes of a raw stream on, unless it begins like a media file.

    The first :data:`HELD_BYTES` are held back until they are there; the few streams that begin like a frame of MP3 or
    AAC are held back until the next frame's header should follow. Fewer than one in 10^7 streams of samples begin like
    a file by chance; such a stream passes when its first samples are left out.

    >>> guard = RawGuard()
    >>> guard.feed(bytes(10)), len(guard.feed(bytes(10))), len(guard.feed(bytes(10)))
    (b'', 20, 10)
    """

    def __init__(self) -> None:
        self._held = b""
        self._decided = False

    def feed(self, data: bytes) -> bytes:
        """The bytes that may be taken for samples by now.

        Raises:
            AudioError: the stream is a media file.
        """
        if self._decided:
            return data
        self._held += data
        if len(self._held) < HELD_BYTES:
            return b""
        if (kind := kind_of(self._held)) is not None:
            raise refusal(kind)
        if _may_be_frames(self._held) and len(self._held) < BEGINNING_BYTES:
            return b""
        return self.rest()

    def rest(self) -> bytes:
        """The bytes that are still held back, at the end of the stream."""
        self._decided = True
        held, self._held = self._held, b""
        return held


def refusal(kind: Kind) -> AudioError:
    """The error for a file of this kind where raw samples are expected."""
    return AudioError("stream", got=kind.name, expected="raw PCM samples without a header", remedy=REMEDY)


def _may_be_frames(beginning: bytes) -> bool:
    """Whether more bytes could show that this is a file whose kind two headers in a row tell."""
    return (
        (beginning[0] == 0xFF and beginning[1] & 0xE0 == 0xE0) or beginning[0] == 0x47 or beginning[:2] == b"\x0b\x77"
    )
