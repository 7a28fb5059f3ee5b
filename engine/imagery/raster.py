"""Safe opening of rasters: JPEG, PNG and GeoTIFF, told by their first bytes, in windows, as 8-bit RGB.

GDAL opens a file with the one driver that its first bytes name, without looking for sidecar files (``.aux.xml``, ``.ovr``, ``.msk``,
world files) and without any network. Sizes are capped before a pixel is decoded. A damaged file is an error: warnings of the JPEG
library count, and PNG is decoded row by row, for GDAL's quicker way passes a truncated file. The orientation that a camera notes in
EXIF is ignored: pixel coordinates follow the pixels as stored, as labels do.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from engine.errors import UnreadableImage, UsageError
from engine.imagery.colour import STRETCHED_DTYPES, ColourRule, choose_bands, percentile_range
from engine.imagery.georeference import georeference_of, ground_sample_distance
from engine.records import GeoReference, Window

__all__ = ["MAGIC_BYTES", "Raster", "RasterInfo", "RasterLimits", "inspect_raster", "needs_tiling", "rewrite_tiled", "sniff"]

MAGIC_BYTES = 8
"""How many of a file's first bytes :func:`sniff` wants."""
UNTILED_SIDE = 4096
BLOCK = 512
SAMPLE_GRID, SAMPLE_SIDE = 8, 128
_TAIL_BYTES = 1 << 16
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\x00", "GTiff"),
    (b"MM\x00*", "GTiff"),
    (b"II+\x00", "GTiff"),
    (b"MM\x00+", "GTiff"),
)
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_GDAL = {
    "GDAL_CACHEMAX": 256 << 20,
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}


@dataclass(frozen=True)
class RasterLimits:
    """Caps that are judged on a file's header, before anything is decoded."""

    max_pixels: int = 3_000_000_000
    """width × height"""
    max_picture_pixels: int = 500_000_000
    """width × height of a JPEG or PNG: formats that are decoded from the top"""
    max_bytes: int = 64 << 30
    """decoded bytes of all bands"""
    max_block_bytes: int = 1 << 30
    """decoded bytes of one block of the file, the least that can be read"""
    max_bands: int = 64


DEFAULT_LIMITS = RasterLimits()
AS_TAKEN_IN = RasterLimits(max_pixels=2**62, max_picture_pixels=2**62, max_bytes=2**62, max_bands=2**31)
"""For scenes of the catalog: what their ingest allowed is read, whatever its caps were."""


@dataclass(frozen=True)
class RasterInfo:
    """What the header of a raster says."""

    format: str
    """JPEG, PNG or GTiff"""
    width: int
    height: int
    bands: int
    dtype: str
    georeference: GeoReference | None
    ground_sample_distance: float | None
    """metres per pixel"""
    captured: str | None
    """ISO 8601, as the camera or the producer noted it, without a time zone"""
    nodata: float | None
    tiled: bool


def sniff(head: bytes) -> str | None:
    """The format (JPEG, PNG or GTiff) that a file's first bytes name; None for any other."""
    return next((driver for magic, driver in _MAGIC if head.startswith(magic)), None)


@contextmanager
def _gdal(name: str) -> Iterator[None]:
    try:
        with rasterio.Env(**_GDAL):
            yield
    except (RasterioError, MemoryError, OverflowError) as error:
        reason = _first_line(error.__cause__ or error).removeprefix(f"{name}, ")
        raise UnreadableImage(f"{name!r} cannot be decoded ({reason})", remedy="Copy or export it again") from error


@contextmanager
def _without_georeference_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class Raster:
    """An image file, opened for reading in windows; a context manager.

    Raises (on entering, and on reading):
        UnreadableImage: no JPEG, PNG or GeoTIFF, over a cap, damaged, or of bands that the rule in :mod:`engine.imagery.colour` leaves out.
    """

    info: RasterInfo

    def __init__(self, path: Path, limits: RasterLimits = DEFAULT_LIMITS) -> None:
        self.path = Path(path)
        self._limits = limits

    def __enter__(self) -> Self:
        """Open the file and read its header."""
        driver = _format_of(self.path)
        with _gdal(self.path.name), _without_georeference_warning():
            self._dataset: Any = rasterio.open(self.path.resolve(), driver=driver)
        try:
            with _gdal(self.path.name):
                _refuse_oversize(self.path.name, driver, self._dataset, self._limits)
                self.info = _info(driver, self._dataset)
                self._rule = self._colour_rule()
        except BaseException:
            self._dataset.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._dataset.close()

    def read(self, window: Window) -> NDArray[np.uint8]:
        """RGB (H, W, 3) of ``window``.

        Raises:
            UnreadableImage: the pixels there are damaged.
            UsageError: ``window`` is not inside the scene.
        """
        place = self._place(window)
        with _gdal(self.path.name):
            return self._rule.apply(self._dataset.read(list(self._rule.bands), window=place))

    def overview(self, width: int, height: int) -> NDArray[np.uint8]:
        """RGB (height, width, 3) of the whole scene, made smaller, see :meth:`read_smaller`."""
        return self.read_smaller(Window(0, 0, self.info.width, self.info.height), width, height)

    def read_smaller(self, window: Window, width: int, height: int) -> NDArray[np.uint8]:
        """RGB (height, width, 3) of ``window``, made smaller: averaged, colours of a palette picked.

        Raises:
            UnreadableImage: the pixels there are damaged.
            UsageError: ``window`` is not inside the scene, or has fewer pixels than are asked for.
        """
        place = self._place(window)
        if not (1 <= width <= window.width and 1 <= height <= window.height):
            raise UsageError(f"an overview of {width} × {height} px", expected=f"at most {window.width} × {window.height}")
        resampling = Resampling.average if self._rule.palette is None else Resampling.nearest
        bands, shape = list(self._rule.bands), (len(self._rule.bands), height, width)
        with _gdal(self.path.name):
            return self._rule.apply(self._dataset.read(bands, window=place, out_shape=shape, resampling=resampling))

    def stored_reduction(self, reduction: float) -> int:
        """The coarsest overview inside the file that is no coarser than ``reduction`` (pixels a side to one); 1 for the pixels."""
        return max((factor for factor in self._dataset.overviews(self._rule.bands[0]) if factor <= reduction), default=1)

    def valid_share(self, window: Window) -> float:
        """Share in [0, 1] of the pixels of ``window`` that hold data, by the file's nodata value, alpha band or mask.

        A georeferenced scene that declares none of these has pure black for its collar: there black counts as no data.
        """
        place = self._place(window)
        declared = any(flags != [MaskFlags.all_valid] for flags in self._dataset.mask_flag_enums)
        if declared:
            with _gdal(self.path.name):
                return float((self._dataset.dataset_mask(window=place) > 0).mean())
        if not self.info.georeference:
            return 1.0
        red, green, blue = np.moveaxis(self.read(window), 2, 0)
        return float(np.count_nonzero(red | green | blue) / red.size)

    def _place(self, window: Window) -> Any:
        x1, y1, x2, y2 = window.xyxy
        if min(x1, y1) < 0 or x2 > self.info.width or y2 > self.info.height or min(window.width, window.height) < 1:
            raise UsageError(f"the window {window.xyxy}", expected=f"one inside {self.info.width} × {self.info.height} px")
        return RasterioWindow(window.x, window.y, window.width, window.height)

    def _colour_rule(self) -> ColourRule:
        dataset, info = self._dataset, self.info
        meanings = [interpretation.name for interpretation in dataset.colorinterp]
        bands = choose_bands(meanings)
        if bands is None or len(set(dataset.dtypes)) > 1:
            raise UnreadableImage(
                f"{self.path.name!r} has {info.bands} bands ({', '.join(meanings)}) of {', '.join(sorted(set(dataset.dtypes)))}",
                expected="grey, palette, or declared red, green and blue of one type",
                remedy="Export it as RGB",
            )
        if info.dtype == "uint8":
            if meanings[bands[0] - 1] == "palette":
                return ColourRule(bands, palette=_palette(dataset.colormap(bands[0])))
            bits = int(dataset.tags(bands[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
            return ColourRule(bands, ranges=None if bits >= 8 else ((0.0, 2.0**bits - 1),) * len(bands))
        if info.dtype not in STRETCHED_DTYPES:
            raise UnreadableImage(f"{self.path.name!r} holds {info.dtype} values", expected=f"uint8, {', '.join(STRETCHED_DTYPES)}")
        return ColourRule(bands, ranges=self._percentiles(bands))

    def _percentiles(self, bands: tuple[int, ...]) -> tuple[tuple[float, float], ...]:
        samples = []
        for x, width in _sample_spans(self.info.width):
            for y, height in _sample_spans(self.info.height):
                place = RasterioWindow(x, y, width, height)
                raw = self._dataset.read(list(bands), window=place)
                samples.append(raw[:, self._dataset.dataset_mask(window=place) > 0])
        return tuple(percentile_range(values) for values in np.concatenate(samples, axis=1))


def _sample_spans(size: int) -> list[tuple[int, int]]:
    if size <= SAMPLE_GRID * SAMPLE_SIDE:
        return [(start, min(SAMPLE_SIDE, size - start)) for start in range(0, size, SAMPLE_SIDE)]
    return [(start * (size - SAMPLE_SIDE) // (SAMPLE_GRID - 1), SAMPLE_SIDE) for start in range(SAMPLE_GRID)]


def _palette(colours: dict[int, tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    palette = np.zeros((256, 3), dtype=np.uint8)
    for index, colour in colours.items():
        palette[index] = colour[:3]
    return palette


def inspect_raster(path: Path, limits: RasterLimits = DEFAULT_LIMITS) -> RasterInfo:
    """What the header of the image at ``path`` says; no pixel of an 8-bit image is decoded.

    Raises:
        UnreadableImage: no JPEG, PNG or GeoTIFF, cut off, over a cap, or of bands that have no rule.
    """
    with Raster(path, limits) as raster:
        return raster.info


def _format_of(path: Path) -> str:
    if str(path.resolve()).startswith("/vsi"):
        raise UnreadableImage(f"{str(path)!r} names a virtual file of GDAL", expected="a file")
    try:
        with path.open("rb") as stream:
            head = stream.read(MAGIC_BYTES)
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            tail = stream.read(_TAIL_BYTES)
    except OSError as error:
        raise UnreadableImage(f"{path.name!r} cannot be opened ({error.strerror})") from error
    driver = sniff(head)
    if driver is None:
        raise UnreadableImage(f"{path.name!r} begins with {head!r}", expected="a JPEG, PNG or TIFF", remedy="Convert it to one of these")
    if _END_MARKS.get(driver, b"") not in tail:
        raise UnreadableImage(f"{path.name!r} is cut off: its end mark is missing", remedy="Copy or export it again")
    return driver


def _refuse_oversize(name: str, driver: str, dataset: Any, limits: RasterLimits) -> None:
    pixels = dataset.width * dataset.height
    sizes = [np.dtype(dtype).itemsize if not dtype.startswith("complex_int") else 4 for dtype in dataset.dtypes]
    block = max(rows * columns for rows, columns in dataset.block_shapes) * sum(sizes)
    for found, cap, what in (
        (pixels, limits.max_pixels, "pixels"),
        (pixels, limits.max_picture_pixels if driver != "GTiff" else limits.max_pixels, f"pixels in a {driver}"),
        (pixels * sum(sizes), limits.max_bytes, "decoded bytes"),
        (block, limits.max_block_bytes, "decoded bytes in one block"),
        (dataset.count, limits.max_bands, "bands"),
    ):
        if found > cap:
            raise UnreadableImage(f"{name!r} has {found} {what}", expected=f"at most {cap}", remedy="Cut it, or store it tiled")


def _info(driver: str, dataset: Any) -> RasterInfo:
    georeference = georeference_of(dataset)
    rows, columns = dataset.block_shapes[0]
    nodata = dataset.nodata
    return RasterInfo(
        format=driver,
        width=dataset.width,
        height=dataset.height,
        bands=dataset.count,
        dtype=dataset.dtypes[0],
        georeference=georeference,
        ground_sample_distance=ground_sample_distance(georeference, dataset.width, dataset.height) if georeference else None,
        captured=_captured(dataset.tags()),
        nodata=None if nodata is None or not math.isfinite(nodata) else float(nodata),
        tiled=columns < dataset.width and rows > 1,
    )


def _captured(tags: dict[str, str]) -> str | None:
    for key in ("EXIF_DateTimeOriginal", "EXIF_DateTime", "TIFFTAG_DATETIME"):
        found = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d:\d\d:\d\d)", tags.get(key, "").strip())
        if found:
            year, month, day, clock = found.groups()
            return f"{year}-{month}-{day}T{clock}"
    return None


def needs_tiling(info: RasterInfo) -> bool:
    """Whether windows of the raster are dear: no tiles inside, and more than 4096 px on a side."""
    return not info.tiled and max(info.width, info.height) > UNTILED_SIDE


def rewrite_tiled(source: Path, target: Path, limits: RasterLimits = DEFAULT_LIMITS) -> None:
    """Write the raster at ``source`` to ``target`` as a GeoTIFF of 512 px tiles: the same bands, values and georeference, lossless.

    Raises:
        UnreadableImage: ``source`` is damaged, or not to be opened (see :class:`Raster`).
    """
    with Raster(source, limits) as raster, _gdal(source.name), _without_georeference_warning():
        rasterio.shutil.copy(
            raster._dataset,
            target,
            driver="GTiff",
            TILED="YES",
            BLOCKXSIZE=BLOCK,
            BLOCKYSIZE=BLOCK,
            COMPRESS="DEFLATE",
            ZLEVEL=1,
            BIGTIFF="IF_SAFER",
        )
