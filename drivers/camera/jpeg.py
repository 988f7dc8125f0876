"""What can be said of a JPEG without decoding it: that it is whole, its size and how often a decoder goes through it
(ISO/IEC 10918-1, annex B)."""

import re

from edge.errors import FrameDamaged

MAX_TRAILER = 64
"""Some cameras pad a picture after its end marker; with more behind it, it isn't the end."""

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SCAN = re.compile(rb"\xff\xda")
_ENDS = {0x00, *range(0x02, 0xC0), 0xDA}
"""No frame header comes after these. Decoders pass over 00 without a length: it could hide another size from us."""
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def jpeg_size(data: memoryview) -> tuple[int, int]:
    """(width, height) of a whole JPEG.

    Raises FrameDamaged when it is not a JPEG, has no frame header, or stops before its end marker: decoders fill a
    truncated picture with grey and say nothing.
    """
    if data[:2] != _SOI:
        raise FrameDamaged("a frame that should be JPEG does not begin as one")
    if _EOI not in bytes(data[max(2, len(data) - 2 - MAX_TRAILER) :]):
        raise FrameDamaged(f"a JPEG of {len(data)} bytes stops before its end")
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF and (marker := data[at + 1]) not in _ENDS:
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in _FRAME_HEADERS:
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            if width and height:
                return width, height
            break
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise FrameDamaged(f"a JPEG of {len(data)} bytes has no frame header")


def scans(data: memoryview) -> int:
    """How often a decoder goes through the whole picture, or more: coded data can't hold the marker, segments can."""
    return sum(1 for _ in _SCAN.finditer(data))
