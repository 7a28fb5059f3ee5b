"""Pictures of tiles and scenes for browsers and annotators: read from the scenes' rasters, a few of which stay open."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.catalog.schema import Scene
from engine.catalog.splits import NO_SPLIT
from engine.catalog.tiles import TileRecord, scene_file, tiles
from engine.catalog.workspace import Workspace
from engine.errors import UnreadableImage
from engine.imagery.raster import AS_TAKEN_IN, Raster
from engine.records import Window

__all__ = ["LARGEST_ID", "LARGEST_WIDTH", "SMALLEST_WIDTH", "Picture", "TilePictures", "etag", "jpeg", "png"]

SMALLEST_WIDTH, LARGEST_WIDTH = 16, 2048
OPEN_SCENES = 64
NEIGHBOURS, TILES_REMEMBERED = 100, 20_000
LARGEST_ID = 2**63 - 1
LARGEST_OVERVIEW_SOURCE = 400_000_000
OVERVIEWS_KEPT = 16
JPEG_QUALITY = 85
_ONE_OPENS = threading.Lock()
"""A warning is silenced while a raster is opened, and Python silences warnings for all threads at once."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture and its media type."""

    content: bytes
    media_type: str


@dataclass
class _Open:
    """A scene's raster; one reader at a time, for GDAL's datasets are not to be shared between threads at once."""

    readers: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)
    raster: Raster | None = None
    stamp: tuple[int, int, int] | None = None

    def at(self, path: Path) -> Raster:
        """The open raster at ``path``; opened again where the file was replaced since."""
        status = path.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self.raster is None or self.stamp != stamp:
            self.close()
            with _ONE_OPENS:
                self.raster, self.stamp = Raster(path, AS_TAKEN_IN).__enter__(), stamp
        return self.raster

    def close(self) -> None:
        """Close the raster, where it is open."""
        raster, self.raster = self.raster, None
        if raster is not None:
            raster.__exit__(None, None, None)


class TilePictures:
    """Encodes tiles and overviews of scenes; may be used by many threads.

    Args:
        workspace: whose.
        open_scenes: how many rasters stay open.
    """

    def __init__(self, workspace: Workspace, *, open_scenes: int = OPEN_SCENES) -> None:
        self._workspace, self._most = workspace, open_scenes
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._overviews: OrderedDict[tuple[int, str, int], Picture] = OrderedDict()
        self._one_overview = threading.Lock()
        self._tiles: dict[int, TileRecord] = {}
        self._scenes: dict[int, Scene] = {}

    def tile(self, tile_id: int) -> TileRecord | None:
        """The tile of that id, whatever its split; None where there is none.

        Neighbours are asked for along with it, and remembered: a page shows a hundred, and the ground of a tile never changes.
        """
        with self._lock:
            known = self._tiles.get(tile_id)
        if known is not None:
            return known
        neighbours = range(tile_id, min(tile_id + NEIGHBOURS, LARGEST_ID + 1))
        with self._workspace.session(write=False) as session:
            found = {tile.id: tile for split in (None, NO_SPLIT) for tile in tiles(session, ids=neighbours, split=split)}
        with self._lock:
            if len(self._tiles) > TILES_REMEMBERED:
                self._tiles.clear()
            self._tiles.update(found)
        return found.get(tile_id)

    def scene(self, scene_id: int) -> Scene | None:
        """The scene of that id; None where there is none."""
        with self._lock:
            known = self._scenes.get(scene_id)
        if known is not None:
            return known
        with self._workspace.session(write=False) as session:
            found = session.get(Scene, scene_id)
        with self._lock:
            if len(self._scenes) > TILES_REMEMBERED:
                self._scenes.clear()
            if found is not None:
                self._scenes[scene_id] = found
        return found

    def pixels(self, tile: TileRecord) -> NDArray[np.uint8]:
        """RGB (H, W, 3) of the tile.

        Raises:
            BadInput: its scene is gone or damaged.
        """
        with self._raster(tile.scene_id) as raster:
            return raster.read(tile.window)

    def smaller(self, scene: Scene, window: Window, width: int, height: int, *, most_pixels: int) -> NDArray[np.uint8] | None:
        """RGB (height, width, 3) of a window of the scene, made smaller; None where more than ``most_pixels`` would have to be decoded.

        Raises:
            BadInput: the scene is gone or damaged.
        """
        with self._raster(scene.id) as raster:
            stored = raster.stored_reduction(window.width / width)
            if window.width * window.height > most_pixels * stored**2:
                return None
            return raster.read_smaller(window, width, height)

    def whole(self, tile: TileRecord) -> Picture:
        """The tile's pixels as they are, as PNG.

        Raises:
            BadInput: its scene is gone or damaged.
        """
        return png(self.pixels(tile))

    def thumbnail(self, tile: TileRecord, width: int) -> Picture:
        """The tile as a JPEG, at most ``width`` wide and never larger than it is.

        Raises:
            BadInput: its scene is gone or damaged.
        """
        picture = Image.fromarray(self.pixels(tile))
        if width < picture.width:
            picture = picture.resize((width, max(1, round(picture.height * width / picture.width))), Image.Resampling.BOX, reducing_gap=2.0)
        return jpeg(picture)

    def overview(self, scene: Scene, width: int) -> Picture:
        """The whole scene as a JPEG, at most ``width`` wide and high and never larger than it is; one is made at a time, a few are kept.

        Raises:
            BadInput: the scene is gone, damaged, or too large to look at as a whole.
        """
        if scene.width * scene.height > LARGEST_OVERVIEW_SOURCE:
            raise UnreadableImage(
                f"the scene {scene.name!r} has {scene.width} × {scene.height} px",
                expected=f"at most {LARGEST_OVERVIEW_SOURCE} for an overview",
                remedy="Look at its tiles",
            )
        key = (scene.id, scene.content_hash, width)
        with self._one_overview:
            if key not in self._overviews:
                shrink = min(1.0, width / max(scene.width, scene.height))
                with self._raster(scene.id) as raster:
                    pixels = raster.overview(max(1, round(scene.width * shrink)), max(1, round(scene.height * shrink)))
                self._overviews[key] = jpeg(Image.fromarray(pixels))
                while len(self._overviews) > OVERVIEWS_KEPT:
                    self._overviews.popitem(last=False)
            return self._overviews[key]

    def close(self) -> None:
        """Close the rasters; those being read are closed by their last reader."""
        with self._lock:
            self._most = 0
            self._evict()

    @contextmanager
    def _raster(self, scene_id: int) -> Iterator[Raster]:
        with self._lock:
            entry = self._open.setdefault(scene_id, _Open())
            entry.readers += 1
            self._open.move_to_end(scene_id)
        try:
            with entry.turn:
                yield entry.at(self._file(scene_id))
        finally:
            with self._lock:
                entry.readers -= 1
                self._evict()

    def _file(self, scene_id: int) -> Path:
        scene = self.scene(scene_id)
        assert scene is not None, "a tile's scene is in the catalog"
        return scene_file(self._workspace, scene)

    def _evict(self) -> None:
        for scene_id in list(self._open):
            if len(self._open) <= self._most:
                return
            if not self._open[scene_id].readers:
                self._open.pop(scene_id).close()


def etag(*parts: object) -> str:
    """A strong entity tag of ``parts``."""
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def png(pixels: NDArray[np.uint8]) -> Picture:
    """RGB (H, W, 3) or RGBA (H, W, 4) as it is."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return Picture(stream.getvalue(), "image/png")


def jpeg(picture: Image.Image) -> Picture:
    """A picture to look at."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    return Picture(stream.getvalue(), "image/jpeg")
