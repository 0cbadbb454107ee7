"""Kinds of media file, told by their first bytes.

A kind with a `demuxer` can be read by FFmpeg (through PyAV). FFmpeg is given this demuxer and is never left to guess:
some of its formats, such as playlists, open other files and addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

BEGINNING_BYTES = 4_096
"""The start of a file that suffices for every kind."""
HELD_BYTES = 16
"""The start that suffices for every kind but those that are told by two headers in a row."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of media file.

    Attributes:
        name: its name in messages, with an article.
        demuxer: FFmpeg's reader of it; empty where there is none.
        by_libsndfile: whether libsndfile reads it, at least with the usual encodings.
    """

    name: str
    demuxer: str = ""
    by_libsndfile: bool = False


WAV = Kind("a WAV file", "wav", True)
FLAC = Kind("a FLAC file", "flac", True)
OGG = Kind("an Ogg file", "ogg", True)
MPEG_AUDIO = Kind("an MP3 file", "mp3", True)
W64 = Kind("a W64 file", "w64", True)
AIFF = Kind("an AIFF file", "aiff", True)
AU = Kind("an AU file", "au", True)
CAF = Kind("a CAF file", "caf", True)
NIST = Kind("a NIST SPHERE file", "nistsphere", True)
VOC = Kind("a VOC file", "voc", True)
MP4 = Kind("an MP4 or QuickTime file (mp4, m4a, mov, 3gp)", "mov")
MATROSKA = Kind("a WebM or Matroska file (webm, mkv, mka)", "matroska")
ASF = Kind("a Windows Media file (wma, wmv, asf)", "asf")
AMR = Kind("an AMR file", "amr")
AAC = Kind("an AAC file", "aac")
AVI = Kind("an AVI file", "avi")
FLV = Kind("a Flash video", "flv")
QCP = Kind("a QCP file", "qcp")
TRANSPORT = Kind("an MPEG transport stream (ts, mts)", "mpegts")
PROGRAM = Kind("an MPEG program stream (mpg, vob)", "mpeg")
AC3 = Kind("an AC-3 file", "ac3")
APE = Kind("a Monkey's Audio file", "ape")
WAVPACK = Kind("a WavPack file", "wv")
TTA = Kind("a True Audio file", "tta")
MUSEPACK = Kind("a Musepack file", "mpc8")
SILK = Kind("a SILK recording (WeChat, QQ)")
REAL = Kind("a RealMedia file")

MAGICS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"fLaC", FLAC),
    (0, b"OggS", OGG),
    (0, b"riff\x2e\x91\xcf\x11", W64),
    (0, b".snd", AU),
    (0, b"dns.", AU),
    (0, b"caff\0", CAF),
    (0, b"NIST_1A\n", NIST),
    (0, b"Creative Voice F", VOC),
    (0, b"\x1a\x45\xdf\xa3", MATROSKA),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ASF),
    (0, b"#!AMR", AMR),
    (0, b"FLV\x01", FLV),
    (0, b"\0\0\x01\xba", PROGRAM),
    (0, b"MAC \x96\x0f", APE),
    (0, b"MAC \x8c\x0f", APE),
    (0, b"wvpk", WAVPACK),
    (0, b"TTA1", TTA),
    (0, b"MPCK", MUSEPACK),
    (0, b"#!SILK", SILK),
    (1, b"#!SILK", SILK),
    (0, b".RMF\0\0\0", REAL),
)
FORMS: dict[tuple[bytes, bytes], Kind] = {
    (b"RIFF", b"WAVE"): WAV,
    (b"RIFX", b"WAVE"): WAV,
    (b"RF64", b"WAVE"): WAV,
    (b"BW64", b"WAVE"): WAV,
    (b"RIFF", b"AVI "): AVI,
    (b"RIFF", b"QLCM"): QCP,
    (b"FORM", b"AIFF"): AIFF,
    (b"FORM", b"AIFC"): AIFF,
}
BOXES = frozenset((b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip", b"pnot"))
"""Types of the first box of an MP4 or QuickTime file, after its size in four bytes."""


def kind_of(beginning: bytes) -> Kind | None:
    """The kind of a file that begins so, with :data:`BEGINNING_BYTES` where it has that many; None if none is known.

    >>> kind_of(b"RIFF\\x24\\x00\\x00\\x00WAVEfmt ").name, kind_of(b"\\x00\\x01" * 100)
    ('a WAV file', None)
    """
    for start, magic, kind in MAGICS:
        if beginning.startswith(magic, start):
            return kind
    if (form := FORMS.get((beginning[:4], beginning[8:12]))) is not None:
        return form
    if beginning[4:8] in BOXES and (beginning[:4] == b"\0\0\0\x01" or int.from_bytes(beginning[:4], "big") >= 8):
        return MP4
    if is_id3(beginning):
        return MPEG_AUDIO
    return _by_repeated_headers(beginning)


def kind_in(stream: BinaryIO) -> Kind | None:
    """The kind of the file in a stream, which is at its beginning before and after.

    What an ID3 tag precedes decides: mostly MP3, but AAC and FLAC files carry such tags too.
    """
    beginning = stream.read(BEGINNING_BYTES)
    if is_id3(beginning):
        stream.seek(id3_bytes(beginning))
        tagged = kind_of(stream.read(BEGINNING_BYTES))
        beginning = beginning if tagged is None else b""
    else:
        tagged = None
    stream.seek(0)
    return tagged or kind_of(beginning)


def is_id3(data: bytes) -> bool:
    """Whether an ID3v2 tag begins here (id3.org, ID3v2.4.0, section 3.1)."""
    return len(data) >= 10 and data[:3] == b"ID3" and 2 <= data[3] <= 4 and max(data[6:10]) < 0x80


def id3_bytes(data: bytes) -> int:
    """The length of the ID3v2 tag that begins here, with its header and footer."""
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte
    return size + (20 if data[5] & 0x10 else 10)


def _by_repeated_headers(data: bytes) -> Kind | None:
    """Kinds whose frames begin with a short pattern: the next frame must begin alike, where the first one ends."""
    if _repeats(data, adts_bytes(data)):
        return AAC
    if mpeg_layer(data) > 1 and _repeats(data, mpeg_bytes(data)):
        return MPEG_AUDIO
    if data[:2] == b"\x0b\x77" and _repeats(data, ac3_bytes(data)):
        return AC3
    if len(data) > 4 * 188 and all(data[start] == 0x47 for start in range(0, 5 * 188, 188)):
        return TRANSPORT
    return None


def _repeats(data: bytes, length: int) -> bool:
    return length > 0 and data[length : length + 2] == data[:2]


def adts_bytes(header: bytes) -> int:
    """The length of the AAC frame with this ADTS header (ISO/IEC 13818-7, section 6.2); 0 where there is none."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


BITRATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by version (1, or 2 for 2 and 2.5), layer and index (ISO/IEC 11172-3, section 2.4.2.3; 13818-3)."""
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""By the version's bits: MPEG 1, 2 and 2.5."""


AC3_BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
"""kbit/s (ATSC A/52, table 5.18)."""


def ac3_bytes(header: bytes) -> int:
    """The length of the AC-3 or E-AC-3 frame with this header (ATSC A/52, sections 5.4.1 and E.1.3.1); 0 for none."""
    if len(header) < 6 or header[5] >> 3 > 16:
        return 0
    if header[5] >> 3 > 10:
        return 2 * ((header[2] & 7) << 8 | header[3]) + 2
    rate, code = header[4] >> 6, header[4] & 63
    if rate == 3 or code >= 2 * len(AC3_BITRATES):
        return 0
    kbits = AC3_BITRATES[code >> 1]
    return (4 * kbits, 2 * (kbits * 96_000 // 44_100 + (code & 1)), 6 * kbits)[rate]


def mpeg_layer(header: bytes) -> int:
    """The layer of the MPEG audio frame with this header, 1 to 3; 0 where there is none."""
    return 4 - (header[1] >> 1 & 3) if mpeg_bytes(header) else 0


def mpeg_bytes(header: bytes) -> int:
    """The length of the MPEG audio frame with this header; 0 where there is none, or one of free bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3 or header[3] & 3 == 2:
        return 0
    bits = 1_000 * BITRATES[1 if version == 3 else 2, layer][bitrate]
    padding, rate_hz = header[2] >> 1 & 1, RATES_HZ[version][rate]
    if layer == 1:
        return (12 * bits // rate_hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // rate_hz + padding


def mpeg_samples(header: bytes) -> int:
    """Samples per channel in the MPEG audio frame with this header."""
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    if layer == 1:
        return 384
    return 576 if layer == 3 and version != 3 else 1_152
