"""What an image file promises, read from its structure before a pixel is decoded: by byte offsets, in microseconds.

A small file can promise a great deal of work: a progressive JPEG repeats a scan 3,000 times, a PNG carries text that
unpacks to megabytes, a picture is 16 million pixels long and one high. Therefore the file is walked first, what costs
is counted, and only what a still picture needs is handed on:

    JPEG   up to the first picture's end, without APPn and COM segments but JFIF's and Adobe's (which say how colours
           are stored): a second, dependent picture (MPO: phones' portraits, gain maps) is not part of it
    PNG    the critical chunks and tRNS: no text, no colour profile, nothing else that can be compressed
    WebP   as it is; its chunks are counted

EXIF is handed on beside it, for its orientation. Formats: JPEG ITU-T T.81 annex B; PNG (W3C, 2003), chapter 5; WebP's
RIFF container (https://developers.google.com/speed/webp/docs/riff_container).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import RequestError

__all__ = ("PNG_MAGIC", "Header", "begins_as_picture", "read_header")

# Cameras write at most 16,320 pixels a side, WebP allows 16,383.
MAX_SIDE = 16_384
# An encoder's usual progressive script has 10 scans; each one may cost as much as a whole baseline picture.
MAX_SCANS = 64
# A colour profile of a megabyte takes 16 segments, extended XMP some hundreds.
MAX_SEGMENTS = 2_000
# 0xFF before a marker. Encoders write none or one; a decoder that is fed in pieces looks through a long run again and
# again.
MAX_FILL = 1_024
# 8 KiB an IDAT, libpng's default, makes 1,280 of 10 MiB.
MAX_CHUNKS = 10_000
# As much as a JPEG's segment can hold; only the orientation is read.
MAX_EXIF = 65_535
# So much is decoded in well under ten milliseconds: a process of its own would cost more than it saves.
QUICK_BYTES, QUICK_PIXELS = 64 * 2**10, 2**18
# So much of a PNG in less than a thread's hand-over costs, in a millisecond at worst. A JPEG may have two thousand
# segments in so many bytes, which take three.
TINY_BYTES, TINY_PIXELS = 8 * 2**10, 2**12
# And more than this takes tenths of a second to seconds, or a hundred megabytes.
HEAVY_BYTES, HEAVY_PIXELS = 2**20, 2**22
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Of ISO media files: the brand after `ftyp`.
_FTYP = {b"mif1": "HEIF", b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF", b"crx ": "a camera's raw picture"}
_FTYP |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC")
_OTHERS = {
    b"GIF8": "GIF; send one frame as PNG",
    b"BM": "BMP; send it as PNG",
    b"II*\x00": "TIFF or a camera's raw picture; send it as PNG or JPEG",
    b"MM\x00*": "TIFF or a camera's raw picture; send it as PNG or JPEG",
    b"II+\x00": "TIFF; send it as PNG or JPEG",
    b"MM\x00+": "TIFF; send it as PNG or JPEG",
    b"\x00\x00\x00\x0cjP": "JPEG 2000; send it as PNG or JPEG",
    b"\xff\x4f\xff\x51": "JPEG 2000; send it as PNG or JPEG",
    b"\x00\x00\x00\x0cJXL": "JPEG XL; send it as PNG or JPEG",
    b"\xff\x0a": "JPEG XL; send it as PNG or JPEG",
    b"\x00\x00\x01\x00": "an icon (ICO); send it as PNG",
    b"8BPS": "a Photoshop file; send it as PNG or JPEG",
    b"\x93NUMPY": "an array of NumPy; send it as PNG, or with the Python client",
    b"\x1f\x8b": "a gzip file; send what is in it",
    b"%PDF": "PDF; send a picture of its page",
    b"PK\x03\x04": "a ZIP archive; send each picture, or many to /v1/certify/batch",
}
_BASE64 = re.compile(rb"(iVBORw0KGgo|/9j/|UklGR)[A-Za-z0-9+/=_\r\n-]{20}")
# A marker in entropy-coded data: 0xFF and neither a stuffed zero nor a restart nor fill.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FILL = re.compile(rb"\xff*(?=\xff)")  # what may stand before a marker
_LONG_FILL = b"\xff" * (MAX_FILL + 2)  # the last one is the marker's own
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length: TEM, RST0-7, SOI
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn
# Lossless and hierarchical, which scanners of film and of patients write, and nearly nothing reads.
_RARE_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_SOS, _EOI, _COM, _APP0, _APP1, _APP14 = 0xDA, 0xD9, 0xFE, 0xE0, 0xE1, 0xEE


@dataclass(frozen=True, kw_only=True)
class Header:
    kind: str  # "JPEG", "PNG" or "WEBP"
    width: int  # as stored, before any orientation
    height: int
    data: bytes  # what is to be decoded
    exif: bytes  # empty where there is none
    scans: int  # passes over the picture: of a progressive JPEG several
    baseline: bool  # a JPEG of one pass: it can be decoded at a reduced scale in little memory

    @property
    def quick(self) -> bool:
        """Whether decoding takes milliseconds at most."""
        return len(self.data) <= QUICK_BYTES and self._work <= QUICK_PIXELS

    @property
    def tiny(self) -> bool:
        """Whether decoding takes a millisecond at most."""
        return self.kind == "PNG" and len(self.data) <= TINY_BYTES and self._work <= TINY_PIXELS and not self.exif

    @property
    def heavy(self) -> bool:
        """Whether decoding may take long or much memory."""
        return len(self.data) > HEAVY_BYTES or self._work > HEAVY_PIXELS

    @property
    def _work(self) -> int:
        return self.width * self.height * self.scans


def read_header(data: bytes) -> Header:
    """The header of a JPEG, PNG or WebP file.

    Raises RequestError `unsupported_format` for other bytes, `image_undecodable` where the structure is damaged or
    holds more parts than a picture needs, `image_multiframe` for an animation, `image_too_many_pixels` for a side above
    MAX_SIDE.
    """
    if data.startswith(b"\xff\xd8\xff"):
        header = _jpeg(data)
    elif data.startswith(PNG_MAGIC):
        header = _png(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        header = _webp(data)
    else:
        raise _unsupported(f"image: expected PNG, JPEG or WebP, got {_other(data)}")
    if max(header.width, header.height) > MAX_SIDE:
        raise RequestError(
            "image_too_many_pixels",
            f"image: expected at most {MAX_SIDE} pixels a side, got {header.width} x {header.height}",
            field="image",
            max_side=MAX_SIDE,
        )
    return header


def begins_as_picture(data: bytes) -> bool:
    """Whether these are the first bytes of one of our formats: of no text."""
    return data.startswith((b"\xff\xd8\xff", PNG_MAGIC)) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def _other(data: bytes) -> str:
    """What it is instead, and what to do."""
    if not data:
        return "zero bytes; is the file empty, or was it read before it was sent?"
    if data[4:8] == b"ftyp":
        kind = _FTYP.get(data[8:12], "a film, or a picture of its kind")
        return f"{kind}; save it as JPEG (iPhones: Settings, Camera, Formats, Most Compatible)"
    for begins, kind in _OTHERS.items():
        if data.startswith(begins):
            return kind
    if data[128:132] == b"DICM":
        return "DICOM; send one picture of it as PNG"
    text = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"data:image") or _BASE64.match(data):
        return "base64 text; send the file's bytes, or the text as image in JSON"
    if b"<svg" in data[:1000].lower():
        return "SVG, which has no pixels; send it as PNG"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"{")):
        return "a page of HTML, XML or JSON, perhaps another server's answer"
    if any(mark in data[:16] for mark in (b"PNG", b"JFIF", b"Exif", b"WEBP")):
        return "one that was changed on its way; read and send it as bytes, not as text"
    return "other bytes"


def _jpeg(data: bytes) -> Header:
    kept: list[bytes | memoryview] = [data[:2]]
    exif, scans, at = b"", 0, 2
    size: tuple[int, int] | None = None
    baseline = False
    for _ in range(MAX_SEGMENTS):
        at = _past_fill(data, at)
        marker = data[at + 1] if data[at : at + 1] == b"\xff" and at + 1 < len(data) else None
        if marker is None:
            raise _damaged("a JPEG marker", at)
        if marker == _EOI:
            kept.append(b"\xff\xd9")
            break
        if marker in _BARE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if length < 2 or end > len(data):
            raise _damaged("a whole JPEG segment", at)
        segment = data[at:end]
        if marker in _FRAMES:
            if size is not None or length < 8:
                raise _damaged("one JPEG frame", at)
            if segment[4] != 8 or marker in _RARE_FRAMES:
                got = f"{segment[4]}-bit samples" if segment[4] != 8 else "a lossless or hierarchical JPEG"
                raise _unsupported(f"image: expected 8-bit gray, RGB or palette, got {got}")
            size = int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
            baseline = marker in (0xC0, 0xC1)
        elif marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise _too_many("scans", MAX_SCANS)
            marker_after = _MARKER.search(data, end)
            end = marker_after.start() if marker_after else len(data)
            segment = data[at:end]
            if _LONG_FILL in segment:
                raise _too_many("fill bytes", MAX_FILL)
        elif marker == _APP1 and segment[4:10] == b"Exif\x00\x00" and not exif:
            exif = segment[4:]
        if not (_APP1 <= marker <= 0xEF and marker != _APP14) and marker != _COM:
            kept.append(segment)
        at = end
        if at == len(data):  # cut off: the decoder says so, or fills what is missing as it always did
            break
    else:
        raise _too_many("segments", MAX_SEGMENTS)
    if size is None or not scans:
        raise _damaged("a JPEG frame with a scan", at)
    return Header(
        kind="JPEG", width=size[0], height=size[1], data=_joined(kept, data), exif=exif, scans=scans, baseline=baseline
    )


def _past_fill(data: bytes, at: int) -> int:
    fill = _FILL.match(data, at, at + MAX_FILL + 2)
    if fill is None:
        return at
    if len(fill[0]) > MAX_FILL:
        raise _too_many("fill bytes", MAX_FILL)
    return fill.end()


def _png(data: bytes) -> Header:
    kept: list[bytes | memoryview] = [PNG_MAGIC]
    whole, exif, at = memoryview(data), b"", len(PNG_MAGIC)  # a view: no second copy of megabytes
    if data[at + 4 : at + 8] == b"CgBI":
        raise _unsupported("image: expected PNG, JPEG or WebP, got Xcode's own PNG (CgBI); send it as it was before")
    if data[at + 4 : at + 8] != b"IHDR":
        raise _damaged("a PNG's IHDR chunk", at)
    for _ in range(MAX_CHUNKS):
        length = int.from_bytes(data[at : at + 4], "big")
        name, end = data[at + 4 : at + 8], at + 12 + length
        if len(name) < 4 or not name.isalpha():
            break  # cut off or damaged: the decoder judges what came before
        if name == b"acTL" and int.from_bytes(data[at + 8 : at + 12], "big") != 1:
            raise RequestError("image_multiframe", "image: expected one frame, got an animation", field="image")
        if name[:1].isupper() or name == b"tRNS":
            kept.append(whole[at:end])
        elif name == b"eXIf" and length <= MAX_EXIF:
            exif = data[at + 8 : at + 8 + length]
        at = end
        if name == b"IEND" or at >= len(data):
            break
    else:
        raise _too_many("chunks", MAX_CHUNKS)
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return Header(kind="PNG", width=width, height=height, data=_joined(kept, data), exif=exif, scans=1, baseline=False)


def _webp(data: bytes) -> Header:
    if len(data) < 30:
        raise _damaged("a WebP's first chunk", 12)
    exif, at = b"", 12
    for _ in range(MAX_CHUNKS):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name in (b"ANIM", b"ANMF"):
            raise RequestError("image_multiframe", "image: expected one frame, got an animation", field="image")
        if name == b"EXIF" and length <= MAX_EXIF:
            exif = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
        if at >= len(data):
            break
    else:
        raise _too_many("chunks", MAX_CHUNKS)
    width, height = _webp_size(data)
    return Header(kind="WEBP", width=width, height=height, data=data, exif=exif, scans=1, baseline=False)


def _webp_size(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":  # 24-bit canvas width - 1 and height - 1
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L":  # 14 bits each, less 1, after the signature byte
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":  # 14 bits each, after the frame tag and start code (RFC 6386, section 9.1)
            return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise _damaged("a WebP's VP8, VP8L or VP8X chunk", 12)


def _joined(kept: list[bytes | memoryview], data: bytes) -> bytes:
    """The pieces of `data` that were kept, without a copy where all of them were."""
    return data if sum(map(len, kept)) == len(data) else b"".join(kept)


def _unsupported(detail: str) -> RequestError:
    return RequestError("unsupported_format", detail, field="image")


def _damaged(expected: str, at: int) -> RequestError:
    return RequestError(
        "image_undecodable", f"image: expected {expected} at byte {at}, got something else", field="image"
    )


def _too_many(what: str, limit: int) -> RequestError:
    return RequestError("image_undecodable", f"image: expected at most {limit} {what}, got more", field="image")
