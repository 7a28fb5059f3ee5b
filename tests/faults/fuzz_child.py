"""Decodes damaged images, all in this one process with 2 GiB of address space; reports as JSON what came of them."""

import io
import json
import resource
import struct
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from engine.errors import UnreadableImage
from engine.imagery.cutting import cut_scene

warnings.simplefilter("error")


WHOLE = 128
"""Side of a window that holds a whole picture: GDAL has a way of its own for that."""
END_BYTES = {"jpg": 2, "png": 12}
"""Bytes of the end mark, which is put back behind what was cut off."""


def pictures(folder):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    smooth = Image.fromarray(pixels).resize((96, 96))
    for name, options in (("a.jpg", {}), ("progressive.jpg", {"progressive": True}), ("a.png", {})):
        buffer = io.BytesIO()
        smooth.save(buffer, "JPEG" if name.endswith("jpg") else "PNG", **options)
        yield name, buffer.getvalue()
    for name, options in (
        ("plain.tif", {}),
        ("deflate.tif", {"compress": "deflate", "tiled": True, "blockxsize": 32, "blockysize": 32}),
        ("jpeg.tif", {"compress": "jpeg", "photometric": "ycbcr"}),
    ):
        place = {"crs": "EPSG:32617", "transform": rasterio.Affine(0.1, 0, 404211.9, 0, -0.1, 3285142.9)}
        with rasterio.open(folder / name, "w", driver="GTiff", width=96, height=96, count=3, dtype="uint8", **place, **options) as dataset:
            dataset.write(np.asarray(smooth).transpose(2, 0, 1))
        yield name, (folder / name).read_bytes()


def bomb():
    """A PNG of 60,000 × 60,000 one-bit pixels in a few hundred bytes."""
    chunks = ((b"IHDR", struct.pack(">LLBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data)) for kind, data in chunks
    )


def damaged(originals):
    for name, whole in originals.items():
        for step in range(20):
            yield "cut", name, whole[: len(whole) * step // 20]
        yield "cut", name, whole[:-3]
        if not name.endswith("tif"):
            for step in range(1, 19):
                yield "cut", name, whole[: len(whole) * step // 20] + whole[-END_BYTES[name[-3:]] :]
    generator = np.random.default_rng(1)
    names = sorted(originals)
    for trial in range(500):
        name = names[trial % len(names)]
        content = bytearray(originals[name])
        content[int(generator.integers(len(content)))] ^= 1 << int(generator.integers(8))
        yield "flipped", name, bytes(content)
    yield "cut", "bomb.png", bomb()


def main(folder):
    originals = dict(pictures(folder))
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    report = {"cut": {"refused": 0, "read": []}, "flipped": {"refused": 0, "read": []}, "slowest": 0.0, "other": []}
    for trial, (kind, name, content) in enumerate(damaged(originals)):
        path = folder / f"damaged-{name}"
        path.write_bytes(content)
        started = time.perf_counter()
        try:
            cut_scene(path, tile=(32, WHOLE)[trial % 2], overlap=8, minimum_valid_share=0.5)
            report[kind]["read"].append(f"{name} {len(content)}")
        except UnreadableImage:
            report[kind]["refused"] += 1
        except Exception as error:  # noqa: BLE001
            report["other"].append(f"{kind} {name}: {error!r}")
        report["slowest"] = max(report["slowest"], time.perf_counter() - started)
    sys.stdout.write(json.dumps(report))


main(Path(sys.argv[1]))
