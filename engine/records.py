"""Plain records that cross the rooms: what a label file says, what a scene is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.boxes import Boxes, visible_share
from engine.label_set import LabelSet

__all__ = ["GeoReference", "Ground", "ImageLabels", "LabelFile", "SceneDetections", "SceneFrame", "UnusableBox", "Window"]


@dataclass(frozen=True)
class Window:
    """A rectangle of a scene in scene pixels: left, top, width, height, all integers, width and height at least 1."""

    x: int
    y: int
    width: int
    height: int

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        """(x1, y1, x2, y2), the right and bottom edges excluded."""
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True)
class Ground:
    """Where a tile was cut out: the scene's id, and the window there."""

    scene: int
    window: Window

    def holds(self, scenes: NDArray[np.int64], boxes_scene: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which (n,) of the objects ``boxes_scene`` (n, 4) in ``scenes`` (n,) reach into the window, or up to its edge.

        What a neighbouring tile shows up to the common edge may be the other half of an object on this one.
        """
        x1, y1, x2, y2 = self.window.xyxy
        held: NDArray[np.bool_] = (scenes == self.scene) & (visible_share(boxes_scene, (x1 - 1, y1 - 1, x2 + 1, y2 + 1)) > 0)
        return held


@dataclass(frozen=True)
class GeoReference:
    """Where a scene lies: CRS as WKT, and the affine transform (a, b, c, d, e, f) from pixel corners to CRS units.

    x = a · column + b · row + c and y = d · column + e · row + f.
    """

    crs_wkt: str
    transform: tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class SceneFrame:
    """A scene as label files meet it: its id, its name, its size in pixels, where it lies (None for a plain picture)."""

    id: int
    name: str
    width: int
    height: int
    georeference: GeoReference | None = None


@dataclass(frozen=True)
class ImageLabels:
    """One image and its boxes: its name, its size in pixels (0 where unknown), its boxes in its own pixels.

    A reader gives ``scene_id`` where it knows the very scene, not its name alone. What is to be written also has a ``georeference``,
    where the image lies somewhere, the ``split`` of its ground, where it has one, and the ``window`` of the scene that it shows, where
    it is not the whole scene.
    """

    image: str
    width: int
    height: int
    boxes_scene: Boxes
    scene_id: int | None = None
    georeference: GeoReference | None = None
    split: str | None = None
    window: Window | None = None


@dataclass(frozen=True)
class UnusableBox:
    """A box of a label file that was left out: its image, its coordinates as written, and why."""

    image: str
    box: str
    reason: str


@dataclass(frozen=True)
class LabelFile:
    """A label file read whole: its classes in order, its images; labels are indices into ``label_set``.

    ``source`` names the file or folder it came from; ``crowd`` counts the boxes left out because they stand for many objects,
    ``difficult`` those left out because the file marks them so and that was asked for.
    """

    label_set: LabelSet
    images: tuple[ImageLabels, ...]
    source: str = ""
    unusable: tuple[UnusableBox, ...] = ()
    crowd: int = 0
    difficult: int = 0


@dataclass(frozen=True)
class SceneDetections:
    """The merged boxes of one scene, ready for a GIS layer; ``georeference`` is None for a plain picture."""

    scene: str
    width: int
    height: int
    georeference: GeoReference | None
    label_set: LabelSet
    boxes_scene: Boxes

    def as_label_file(self) -> LabelFile:
        """The same boxes and scores as a label file of one image."""
        return LabelFile(self.label_set, (ImageLabels(self.scene, self.width, self.height, self.boxes_scene),))
