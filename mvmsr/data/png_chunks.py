"""The chunks that a PNG is made of: checked before a decoder believes them, and written."""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = 8
_AROUND = 12  # a chunk's length, name and checksum, four bytes each


def chunks_fit(data: bytes) -> bool:
    """Whether every chunk of a PNG ends within the file, as far as the last one that its length leads to.

    Some decoders allocate what a chunk declares, up to 4 GiB, before they find that the file has no such bytes.

    >>> chunks_fit(bytes(8) + (1).to_bytes(4, "big") + b"IDAT" + bytes(5))
    True
    >>> chunks_fit(bytes(8) + (2).to_bytes(4, "big") + b"IDAT" + bytes(5))
    False
    """
    position = _SIGNATURE
    while position < len(data):
        end = position + _AROUND + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            return False
        if data[position + 4 : position + 8] == b"IEND":  # what follows is not looked at
            return True
        position = end
    return True


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def metadata_chunks(icc_profile: bytes | None, exif: bytes | None) -> bytes:
    """A colour profile and EXIF, as they stand behind the header; empty where there are none."""
    chunks = b""
    if icc_profile:
        chunks += chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
    if exif:
        chunks += chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return chunks
