"""Plain records that cross the rooms: what a label file says, what a scene is."""

from __future__ import annotations

from dataclasses import dataclass

from engine.boxes import Boxes
from engine.label_set import LabelSet

__all__ = ["GeoReference", "ImageLabels", "LabelFile", "SceneDetections", "UnusableBox", "Window"]


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
class ImageLabels:
    """What a label file says of one image: its name as written there, its size in pixels (0 where unknown), its boxes."""

    image: str
    width: int
    height: int
    boxes_scene: Boxes


@dataclass(frozen=True)
class UnusableBox:
    """A box of a label file that was left out: its image, its coordinates as written, and why."""

    image: str
    box: str
    reason: str


@dataclass(frozen=True)
class LabelFile:
    """A label file read whole: its classes in order, its images; labels are indices into ``label_set``.

    ``source`` names the file or folder it came from; ``crowd`` counts the boxes left out because they stand for many objects.
    """

    label_set: LabelSet
    images: tuple[ImageLabels, ...]
    source: str = ""
    unusable: tuple[UnusableBox, ...] = ()
    crowd: int = 0


@dataclass(frozen=True)
class GeoReference:
    """Where a scene lies: CRS as WKT, and the affine transform (a, b, c, d, e, f) from pixel corners to CRS units.

    x = a · column + b · row + c and y = d · column + e · row + f.
    """

    crs_wkt: str
    transform: tuple[float, float, float, float, float, float]


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
