"""The pixels of tiles, decoded once and kept within a bound of memory; torch is loaded with the first sample only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from engine.boxes import Boxes
from engine.catalog.schema import Scene
from engine.catalog.tiles import TileRecord, scene_file
from engine.catalog.workspace import Workspace
from engine.errors import UsageError
from engine.imagery.raster import AS_TAKEN_IN, Raster
from engine.records import Ground

if TYPE_CHECKING:
    from torch import Tensor

    from engine.training.data import Sample

__all__ = ["TilePixels", "WorkspaceTiles"]

OPEN_SCENES = 16


class TilePixels:
    """Reads windows of scenes, for one thread at a time; a context manager that keeps the last few scenes open."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._open: OrderedDict[int, Raster] = OrderedDict()
        self._one_at_a_time = Lock()

    def __enter__(self) -> Self:
        """Start with no scene open."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the scenes."""
        while self._open:
            self._open.popitem()[1].__exit__(None, None, None)

    def read(self, tile: TileRecord) -> NDArray[np.uint8]:
        """RGB pixels (H, W, 3) of the tile."""
        with self._one_at_a_time:
            return self._raster(tile.scene_id).read(tile.window)

    def _raster(self, scene_id: int) -> Raster:
        if scene_id not in self._open:
            with self._workspace.session(write=False) as session:
                path = scene_file(self._workspace, session.get_one(Scene, scene_id))
            while len(self._open) >= OPEN_SCENES:
                self._open.popitem(last=False)[1].__exit__(None, None, None)
            self._open[scene_id] = Raster(path, AS_TAKEN_IN).__enter__()
        self._open.move_to_end(scene_id)
        return self._open[scene_id]


class WorkspaceTiles:
    """Tiles of the workspace as training samples.

    Args:
        pixels: the reader.
        tiles: which tiles, in the order of their indices.
        boxes: by tile id, in tile pixels; a tile without an entry has none.
        size: side of the square samples.
        cache_bytes: decoded tiles are kept until they take this much.

    Raises:
        UsageError: a tile is larger than the samples.
    """

    def __init__(
        self, pixels: TilePixels, tiles: Sequence[TileRecord], boxes: dict[int, Boxes], size: int, *, cache_bytes: int = 2**31
    ) -> None:
        largest = max((max(tile.window.width, tile.window.height) for tile in tiles), default=0)
        if largest > size:
            raise UsageError(
                f"tiles of {largest} px with detector.image_size = {size}",
                expected="an image_size that holds every tile",
                remedy=f"Set detector.image_size to {-(-largest // 32) * 32}",
            )
        self._pixels, self._tiles, self._boxes, self._size = pixels, tiles, boxes, size
        self._cache: dict[int, Tensor] = {}
        self._capacity = cache_bytes // (3 * size * size)

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self._tiles)

    def name(self, index: int) -> str:
        """What a message calls the tile at ``index``: its scene, and its window there."""
        tile = self._tiles[index]
        return f"{tile.scene_name} {tile.window.xyxy}"

    def image(self, index: int) -> Tensor:
        """Pixels (3, S, S) uint8 of the tile at ``index``, padded to the square."""
        from engine.training.data import pad_to_square

        cached = self._cache.get(index)
        if cached is None:
            cached = pad_to_square(self._pixels.read(self._tiles[index]), self._size)
            if len(self._cache) < self._capacity:
                self._cache[index] = cached
        return cached

    def sample(self, index: int) -> Sample:
        """The tile at ``index`` with its boxes."""
        import torch

        from engine.training.data import Sample

        tile = self._tiles[index]
        known = self._boxes.get(tile.id, Boxes.empty())
        boxes, labels = torch.from_numpy(known.xyxy.astype(np.float32)), torch.from_numpy(known.labels)
        return Sample(self.image(index), boxes, labels, ground=Ground(tile.scene_id, tile.window))
