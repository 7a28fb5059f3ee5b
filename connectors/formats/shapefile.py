"""Shapefiles: one layer of outlines in .shp, with .shx, .dbf and .prj beside it."""

from __future__ import annotations

from pathlib import Path

from connectors.formats.contract import DEFAULTS, NO_SCENES, ReadOptions, Scenes
from connectors.formats.ground import place
from connectors.formats.layers import read_layer, safely_named
from engine.records import LabelFile

__all__ = ["MAGIC", "read"]

MAGIC = b"\x00\x00\x27\x0a"
"""What a .shp file begins with."""
PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")


def read(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:
    """Read a .shp file, see :func:`connectors.formats.ground.place`; text is in the encoding that .cpg or .dbf name.

    Raises:
        BadInput: a part is missing or damaged, or what :func:`connectors.formats.ground.place` refuses.
    """
    with safely_named(path, PARTS) as file:
        return place([read_layer(file, None, path.name, options)], scenes, options, path.resolve().name)
