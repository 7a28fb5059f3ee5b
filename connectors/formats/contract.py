"""What every label format agrees on.

A reader is ``read(path, scenes, options) -> LabelFile``: from a file or folder to images by name, their boxes in pixels and the classes.
Formats that need more than they hold (sizes for shares of a picture, ground for polygons on a map) ask ``scenes`` for it. A writer is
``write(target, labels)`` or, where pictures lie beside the labels, ``write(target, labels, pictures)``: whole or absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from engine.config import StageConfig
from engine.errors import BadInput
from engine.files import write_json
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile, SceneFrame

__all__ = ["DEFAULTS", "MARK", "NO_SCENES", "Pictures", "ReadOptions", "Reader", "Scenes", "label_set_of", "leave_mark"]

MARK = "tilehawk-labels.json"
"""The file by which a folder is known as one that we wrote, and may write anew."""


class ReadOptions(StageConfig):
    """What a label file leaves open."""

    format: Literal["coco", "voc", "yolo", "dota", "isaid", "gpkg", "geojson", "shapefile"] | None = None
    """how the labels are written; none finds it by their content"""
    difficult: Literal["keep", "drop"] = "keep"
    """what becomes of objects that a DOTA or VOC file marks as difficult"""
    layer: str | None = None
    """the layer of a GeoPackage, where it has several"""
    class_column: str | None = None
    """the column of a GIS layer that names the class of each feature; none guesses it by its name"""
    class_name: str | None = None
    """the one class of all features, for a GIS layer without such a column"""
    crs: str | None = None
    """the coordinate system of a GIS layer that does not state one, for example EPSG:32617"""
    point_size: float | None = Field(default=None, gt=0)
    """side in metres of the boxes that the points of a GIS layer become; none refuses points"""
    minimum_visible: float = Field(default=0.4, gt=0, le=1)
    """share of a GIS feature's box that must lie in a scene for the scene to have it"""


DEFAULTS = ReadOptions()


class Scenes(Protocol):
    """The scenes of a workspace, as a reader meets them."""

    def __iter__(self) -> Iterator[SceneFrame]:
        """Every scene."""

    def find(self, image: str) -> Sequence[SceneFrame]:
        """The scenes that an image of this name may be: one where it is clear, none where there is none."""


class _NoScenes:
    def __iter__(self) -> Iterator[SceneFrame]:
        return iter(())

    def find(self, image: str) -> Sequence[SceneFrame]:  # noqa: ARG002 - part of the protocol
        return ()


NO_SCENES: Scenes = _NoScenes()
"""For files that say all there is to say, and nothing to ask."""


class Reader(Protocol):
    """A format that labels come in."""

    def __call__(self, path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:
        """Read a file or folder whole.

        Raises:
            BadInput: it cannot be used, naming the file, the place in it and what was expected; nothing is half read.
        """


class Pictures(Protocol):
    """The pictures of what is written, for formats that keep them beside the labels."""

    def place(self, image: ImageLabels, stem: Path) -> Path:
        """Put the picture of ``image`` at ``stem`` plus the suffix of its kind; returns that path."""


def leave_mark(folder: Path, labels: LabelFile) -> None:
    """Write :data:`MARK` into a folder of labels: who wrote it, and how much."""
    boxes = sum(len(image.boxes_scene) for image in labels.images)
    write_json(
        folder / MARK,
        {"written_by": "tilehawk labels export", "classes": list(labels.label_set.names), "images": len(labels.images), "boxes": boxes},
    )


def label_set_of(names: Sequence[str], where: Path | str) -> LabelSet:
    """The label set of ``names``.

    Raises:
        BadInput: a name is empty or stands twice; ``where`` says in which file.
    """
    try:
        return LabelSet.of(names)
    except BadInput as wrong:
        raise BadInput(f"{where}: {wrong.found}", expected=wrong.expected, remedy=wrong.remedy) from wrong
