"""Picture files that are whole, damaged, or lie about what they hold."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from fuzz_workers import Case, Finding
from PIL import Image, ImageCms

_SIDES = (
    0,
    1,
    2,
    255,
    256,
    4096,
    8192,
    12_000,
    16_383,
    20_000,
    32_768,
    65_500,
    65_535,
    10**6,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "avif": "AVIF", "gif": "GIF"}


def _saved(image: Image.Image, suffix: str, **options: object) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    image.save(buffer, _FORMATS[suffix], **options)
    return f".{suffix}", buffer.getvalue()


def _seeds() -> list[tuple[str, bytes]]:
    """Small valid pictures of every format, mode and kind of metadata, as (suffix, bytes)."""
    import cv2

    rng = np.random.default_rng(0)
    rgb = Image.fromarray((rng.integers(0, 60, (24, 20, 3)) + np.arange(20)[:, None] * 9).astype(np.uint8))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(rng.integers(0, 256, (24, 20), dtype=np.uint8)))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = 6, "maker", "somebody"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 10:00:00"
    meta = {"icc_profile": profile, "exif": exif.tobytes()}
    seeds = [_saved(rgb, suffix) for suffix in _FORMATS]
    seeds += [_saved(rgb, suffix, **meta) for suffix in ("png", "jpg", "webp", "tif", "avif")]
    seeds += [_saved(alpha, suffix) for suffix in ("png", "webp", "tif", "avif")]
    seeds += [_saved(rgb.convert(mode), "png") for mode in ("1", "L", "LA", "P", "I;16")]
    seeds += [_saved(rgb.convert(mode), "tif", icc_profile=profile) for mode in ("CMYK", "LAB", "1", "P", "F", "YCbCr")]
    seeds += [_saved(rgb.convert("CMYK"), "jpg", icc_profile=profile), _saved(rgb.convert("L"), "jpg", exif=exif)]
    seeds += [_saved(rgb, "jpg", progressive=True), _saved(rgb.quantize(7), "png", transparency=1)]
    packed = ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    seeds += [_saved(rgb, "tif", compression=name) for name in packed] + [
        _saved(rgb.convert("1"), "tif", compression="group4")
    ]
    seeds += [
        _saved(rgb, suffix, save_all=True, append_images=[alpha.convert("RGB")])
        for suffix in ("gif", "png", "webp", "tif")
    ]
    seeds += [_saved(rgb, "webp", lossless=True), _saved(rgb.quantize(5), "bmp"), _saved(rgb.convert("1"), "bmp")]
    deep = rng.integers(0, 65536, (12, 10, 4)).astype(np.uint16)
    for suffix in ("png", "tif"):
        seeds += [(f".{suffix}", cv2.imencode(f".{suffix}", deep[..., :c].squeeze())[1].tobytes()) for c in (1, 3, 4)]
    return seeds


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """A PNG's (kind, content)."""
    found, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        at = rng.randrange(min(len(changed), rng.choice((64, 400, 10**6))))
        changed[at] = rng.choice((changed[at] ^ (1 << rng.randrange(8)), rng.randrange(256), 0, 255))
    return bytes(changed)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice((rng.randrange(len(data)), rng.randrange(min(len(data), 60)), len(data) - 1))]


def _spliced(rng: random.Random, data: bytes) -> bytes:
    start, length, to = rng.randrange(len(data)), rng.choice((1, 4, 16, 100)), rng.randrange(len(data))
    piece = rng.choice((data[start : start + length], rng.randbytes(length), bytes(length), b"\xff" * length))
    return data[:to] + piece + data[to + rng.choice((0, 0, len(piece), 8)) :]


def _overwritten(rng: random.Random, data: bytes) -> bytes:
    """A number of 2 or 4 bytes replaced: headers are full of lengths, offsets, counts and sides."""
    value, order = rng.choice(_SIDES), rng.choice(("<", ">"))
    field = (
        struct.pack(order + "H", value & 0xFFFF) if rng.random() < 0.5 else struct.pack(order + "I", value & 0xFFFFFFFF)
    )
    at = rng.randrange(min(len(data), rng.choice((40, 300, 10**6))))
    return data[:at] + field + data[at + len(field) :]


def _png_lies(rng: random.Random, data: bytes) -> bytes:
    """A PNG whose chunks, with right checksums, contradict each other."""
    chunks = (
        _chunks(data)
        if data[:4] == b"\x89PNG"
        else [(b"IHDR", bytes([0, 0, 0, 9, 0, 0, 0, 9, 8, 2, 0, 0, 0])), (b"IEND", b"")]
    )
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(chunks))
        kind = rng.randrange(6)
        if kind == 0:
            del chunks[at]
        elif kind == 1:
            chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
        elif kind == 2:
            header = [
                rng.choice(_SIDES) & 0xFFFFFFFF,
                rng.choice(_SIDES) & 0xFFFFFFFF,
                rng.choice((1, 2, 4, 8, 16, 32)),
                rng.choice((0, 2, 3, 4, 6, 9)),
            ]
            chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *header, rng.choice((0, 0, 1)), 0, rng.randrange(3)))
        elif kind == 3:
            name = rng.choice(
                (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"acTL", b"fcTL", b"fdAT", b"pHYs", b"sBIT", b"bKGD", b"IDAT")
            )
            chunks.insert(rng.randrange(1, len(chunks) + 1), (name, rng.randbytes(rng.choice((0, 1, 3, 8, 26, 769)))))
        elif kind == 4:
            big = zlib.compress(bytes(rng.choice((10, 10**6, 80 * 10**6))), 9)
            text = rng.choice(
                (
                    (b"iCCP", b"p\0\0" + big),
                    (b"zTXt", b"k\0\0" + big),
                    (b"iTXt", b"k\0\1\0\0\0" + big),
                    (b"eXIf", b"Exif\0\0" + big[:999]),
                )
            )
            chunks.insert(1, text)
        else:
            chunks[at] = (chunks[at][0], _flipped(rng, chunks[at][1] + b"\0"))
        if not chunks:
            break
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _bomb(rng: random.Random) -> tuple[str, bytes]:
    """Nothing but one colour, or less, over an absurd area."""
    width, height = rng.choice(
        ((3000, 3000), (7000, 7000), (9000, 9000), (14_000, 14_000), (16_383, 16_383), (60_000, 60_000))
    )
    kind = rng.choice(("png", "png16", "png1", "jpg", "gif", "bmp", "tif", "webp", "avif", "pgm"))
    if kind.startswith("png"):
        depth, colour, row = {"png": (8, 2, 3 * width), "png16": (16, 6, 8 * width), "png1": (1, 3, -(-width // 8))}[
            kind
        ]
        packer = zlib.compressobj(1)
        lines = min(height, 30_000_000 // row)  # whole, where that is quickly made
        data = b"".join(packer.compress(bytes(row + 1)) for _ in range(lines)) + packer.flush()
        header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"PLTE", bytes(6)), (b"IDAT", data), (b"IEND", b""))
        return ".png", b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)
    if kind == "pgm":
        return ".pgm", b"%s %d %d %d\n" % (
            rng.choice((b"P5", b"P6", b"P2", b"P4")),
            width,
            height,
            rng.choice((1, 255, 65535)),
        ) + bytes(99)
    side = min(width, 700 if kind != "webp" else 16_383)
    small = Image.new("RGB", (side, side) if kind != "webp" or rng.random() < 0.1 else (700, 700))
    suffix, data = _saved(small, kind, **({"lossless": True, "method": 0} if kind == "webp" else {}))
    sides = {
        "jpg": (">H", 2),
        "gif": ("<H", 2),
        "bmp": ("<I", 4),
        "tif": ("<H", 2),
        "webp": ("<H", 2),
        "avif": (">I", 4),
    }[kind]
    old, new = (struct.pack(sides[0], n & (2 ** (8 * sides[1]) - 1)) for n in (small.size[0], width))
    return suffix, data.replace(old, new) if old != new else data


def _metadata(rng: random.Random) -> tuple[str, bytes]:
    """A good picture with broken EXIF or a broken colour profile."""
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x0112] = rng.choice((0, 1, 6, 9, 255, 65535))
    exif[0x010E] = "x" * rng.choice((1, 50))
    block = bytearray(exif.tobytes())
    for _ in range(rng.randrange(5)):
        block[rng.randrange(len(block))] = rng.choice((0, 1, 2, 5, 7, 10, 12, 13, 255, rng.randrange(256)))
    block = (
        block
        if rng.random() < 0.7
        else bytearray(rng.choice((b"", b"Exif\0\0", b"Exif\0\0II*\0", rng.randbytes(40), b"MM\0*\xff\xff\xff\xff")))
    )
    broken = rng.choice(
        (
            _flipped(rng, profile),
            profile[: rng.randrange(len(profile))],
            rng.randbytes(200),
            b"",
            _overwritten(rng, profile),
        )
    )
    mode = rng.choice(("RGB", "CMYK", "L", "LAB", "RGBA"))
    suffix = rng.choice(
        {"CMYK": ("jpg", "tif"), "LAB": ("tif",), "RGBA": ("png", "webp", "tif", "avif")}.get(
            mode, ("png", "jpg", "tif", "webp", "avif")
        )
    )
    image = Image.new(mode, (17, 13))
    try:
        return _saved(image, suffix, exif=bytes(block), icc_profile=broken)
    except Exception:  # Pillow refuses to write some of it; then with the profile alone, or plainly
        try:
            return _saved(image, suffix, icc_profile=broken)
        except Exception:
            return _saved(image, suffix)


class Pictures:
    """Pictures as `mvmsr upscale` and the training data read them."""

    name = "pictures"

    def __init__(self) -> None:
        import cv2

        from mvmsr.data.image_io import ImageError

        cv2.setNumThreads(1)
        Image.init()
        self.refusals = (ImageError,)
        self.seeds = _seeds()

    def make(self, rng: random.Random, canary: Path) -> Case:
        """Mostly small changes of small pictures; a bomb now and then."""
        suffix, data = rng.choice(self.seeds)
        kinds = ("whole", "flip", "cut", "splice", "field", "png", "metadata", "bomb", "other suffix", "random")
        kind = rng.choices(kinds, (1, 25, 10, 12, 20, 14, 12, 2, 2, 2))[0]
        if kind == "flip":
            data = _flipped(rng, data)
        elif kind == "cut":
            data = _cut(rng, data)
        elif kind == "splice":
            data = _spliced(rng, data)
        elif kind == "field":
            for _ in range(rng.randrange(1, 4)):
                data = _overwritten(rng, data)
        elif kind == "png":
            suffix, data = ".png", _png_lies(rng, data)
        elif kind == "metadata":
            suffix, data = _metadata(rng)
        elif kind == "bomb":
            suffix, data = _bomb(rng)
        elif kind == "other suffix":
            suffix = rng.choice(self.seeds)[0]
        elif kind == "random":
            data = rng.choice((b"", rng.randbytes(rng.randrange(500)), data[:12] + rng.randbytes(rng.randrange(500))))
        return Case(f"{kind}: {suffix}", suffix, data)

    def read(self, path: Path) -> str:
        """The size as the audit of a data set asks for it, the picture as upscaling and as training reads it."""
        from mvmsr.data.image_io import image_size, read_picture

        image_size(path)
        picture = read_picture(path)
        rgb = picture.over_white().as_8_bit().rgb  # what `read_rgb` does with it
        if rgb.dtype != np.uint8 or rgb.shape != picture.rgb.shape:
            raise Finding(f"an image of {rgb.dtype}")
        return "read"
