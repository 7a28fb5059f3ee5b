"""A scene of any size as squares of 256 pixels, level by level, each made from a bounded number of the scene's pixels.

Level :func:`levels_of` shows the pixels as they are, each level below it half as many a side. What would need too many pixels for one
square comes from a copy of the whole scene, made smaller once in the background and kept in ``temporary/overviews``.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.tile_pictures import Picture, TilePictures, jpeg, png
from engine.catalog.schema import Scene
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.files import atomic_file
from engine.records import Window

__all__ = ["SQUARE", "DeepZoom", "levels_of"]

SQUARE = 256
REDUCTION = 16
"""Pixels of the scene a side to one of its copy; for one square no more are decoded than make it this much smaller."""
COPIES_KEPT = 2
FAILED_SECONDS = 5.0
QUALITY = 90

_Key = tuple[int, str]


def levels_of(width: int, height: int) -> int:
    """The level at which a scene of ``width`` × ``height`` pixels is shown as it is; at level 0 it fits one square."""
    return max(0, math.ceil(math.log2(max(width, height) / SQUARE)))


class DeepZoom:
    """Squares of scenes; may be used by many threads.

    Args:
        pictures: reads the scenes.
        workspace: in which copies are kept.
        reduction: pixels of a scene a side to one of its copy.
        failed_seconds: for how long all who ask are told that a copy could not be made, before it is tried again.
    """

    def __init__(
        self, pictures: TilePictures, workspace: Workspace, *, reduction: int = REDUCTION, failed_seconds: float = FAILED_SECONDS
    ) -> None:
        self._pictures, self._folder, self._reduction = pictures, workspace.temporary / "overviews", reduction
        self._failed_seconds = failed_seconds
        self._lock, self._one_copy = threading.Lock(), threading.Lock()
        self._copies: OrderedDict[_Key, NDArray[np.uint8]] = OrderedDict()
        self._making: dict[_Key, float] = {}
        self._failed: dict[_Key, tuple[str, float]] = {}

    def scene(self, scene_id: int) -> Scene | None:
        """The scene of that id; None where there is none."""
        return self._pictures.scene(scene_id)

    def square(self, scene: Scene, level: int, column: int, row: int) -> Picture | None:
        """The square at ``column`` and ``row`` of a level, transparent beyond the scene; None while the copy that it needs is being made.

        Raises:
            BadInput: the scene is gone or damaged.
        """
        window, reduction = _window(scene, level, column, row)
        width, height = max(1, math.ceil(window.width / reduction)), max(1, math.ceil(window.height / reduction))
        pixels = self._pictures.smaller(scene, window, width, height, most_pixels=(SQUARE * self._reduction) ** 2)
        if pixels is None:
            copy = self._copy(scene)
            if copy is None:
                return None
            x1, y1, x2, y2 = (side / self._reduction for side in window.xyxy)
            pixels = np.asarray(Image.fromarray(copy).resize((width, height), Image.Resampling.BOX, box=(x1, y1, x2, y2)))
        if (width, height) != (SQUARE, SQUARE):
            padded = np.zeros((SQUARE, SQUARE, 4), dtype=np.uint8)
            padded[:height, :width, :3], padded[:height, :width, 3] = pixels, 255
            return png(padded)
        return png(pixels) if reduction == 1 else jpeg(Image.fromarray(pixels))

    def progress(self, scene: Scene) -> float | None:
        """How much of the scene's copy is made, in [0, 1]; None where none is being made."""
        with self._lock:
            return self._making.get(_key(scene))

    def _copy(self, scene: Scene) -> NDArray[np.uint8] | None:
        """The smaller copy of the scene; None where it is only now being made.

        Raises:
            BadInput: it could not be made; that is said for some seconds, once at least, and then it is tried again.
        """
        key, file = _key(scene), self._folder / f"{scene.content_hash}.jpg"
        with self._lock:
            if key in self._copies:
                self._copies.move_to_end(key)
                return self._copies[key]
            if key in self._failed:
                words, until = self._failed[key]
                if time.monotonic() >= until:
                    del self._failed[key]
                raise BadInput(words)
            if key in self._making:
                return None
            if not file.is_file():
                self._making[key] = 0.0
                threading.Thread(target=self._make, args=(scene,), daemon=True, name=f"overview of scene {scene.id}").start()
                return None
            with Image.open(file) as stored:
                self._copies[key] = np.asarray(stored.convert("RGB"))
            while len(self._copies) > COPIES_KEPT:
                self._copies.popitem(last=False)
            return self._copies[key]

    def _make(self, scene: Scene) -> None:
        """Read the scene window by window into its copy; one scene at a time, and others may read it in between."""
        key = _key(scene)
        try:
            with self._one_copy:
                copy = self._read_whole(scene)
                with atomic_file(self._folder / f"{scene.content_hash}.jpg") as temporary:
                    Image.fromarray(copy).save(temporary, "JPEG", quality=QUALITY)
        except (BadInput, OSError) as failed:
            with self._lock:
                self._failed[key] = str(failed), time.monotonic() + self._failed_seconds
        finally:
            with self._lock:
                self._making.pop(key, None)

    def _read_whole(self, scene: Scene) -> NDArray[np.uint8]:
        side, smaller = SQUARE * self._reduction, self._reduction
        copy = np.zeros((-(-scene.height // smaller), -(-scene.width // smaller), 3), dtype=np.uint8)
        starts = [(x, y) for y in range(0, scene.height, side) for x in range(0, scene.width, side)]
        for done, (x, y) in enumerate(starts):
            window = Window(x, y, min(side, scene.width - x), min(side, scene.height - y))
            width, height = -(-window.width // smaller), -(-window.height // smaller)
            part = self._pictures.smaller(scene, window, width, height, most_pixels=side**2)
            assert part is not None, "a window of this side is never too much"
            copy[y // smaller : y // smaller + height, x // smaller : x // smaller + width] = part
            with self._lock:
                self._making[_key(scene)] = (done + 1) / len(starts)
        return copy


def _key(scene: Scene) -> _Key:
    return scene.id, scene.content_hash


def _window(scene: Scene, level: int, column: int, row: int) -> tuple[Window, int]:
    """The part of the scene that a square shows, and how many of its pixels a side become one.

    Raises:
        BadInput: the scene has no such square.
    """
    levels = levels_of(scene.width, scene.height)
    reduction = 2 ** (levels - level) if 0 <= level <= levels else 1
    side = SQUARE * reduction
    x, y = column * side, row * side
    if not (0 <= level <= levels and 0 <= x < scene.width and 0 <= y < scene.height):
        raise BadInput(f"no square {column}, {row} at level {level} of scene {scene.id}", expected=f"levels 0 to {levels}")
    return Window(x, y, min(side, scene.width - x), min(side, scene.height - y)), reduction
