"""iSAID: instance masks over the images of DOTA, in a COCO-like json; a box is what its mask takes up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.formats import coco
from connectors.formats.boxes import XYXY, hull
from connectors.formats.contract import DEFAULTS, NO_SCENES, ReadOptions, Scenes
from engine.errors import BadInput
from engine.records import LabelFile

__all__ = ["read", "written_as_isaid"]

MASK_ENDINGS = ("_instance_color_RGB", "_instance_id_RGB")
DOTA_IMAGE = re.compile(r"^P\d{4,5}(_\d+){0,4}(_instance_(color|id)_RGB)?\.png$")
EXPECTED_MASK = "polygons as lists of x, y, or a run-length code with size and counts"


def read(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:  # noqa: ARG001 - the file says it all
    """Read an iSAID file; classes stand in the order of their ids, as :func:`connectors.formats.coco.read` has them.

    The box of an object is the hull of its ``segmentation``, polygons or a run-length code, for the ``bbox`` of the published files has
    been made by several rules; an object without a mask has its ``bbox``. A mask of ``P0003`` (``P0003_instance_id_RGB.png``) means the
    image ``P0003.png``. Patches (``P0003_0_800_0_800.png``) mean images of that name: the objects that they cut are not put together.

    Raises:
        BadInput: as for COCO; and a segmentation that is neither polygons nor a run-length code.
    """
    return coco.read_document(coco.load(path), path, box_of=_box_of, image_of=_image_of)


def written_as_isaid(document: Mapping[str, Any]) -> bool:
    """Whether a COCO document is iSAID's: it names mask pictures, or all images go by DOTA's names and all objects have masks."""
    images, rows = document.get("images"), document.get("annotations")
    if not (isinstance(images, list) and isinstance(rows, list) and images and rows):
        return False
    if any(isinstance(image, dict) and ("ins_file_name" in image or "seg_file_name" in image) for image in images):
        return True
    names = [str(image.get("file_name")) if isinstance(image, dict) else "" for image in images]
    return all(DOTA_IMAGE.match(Path(name).name) for name in names) and all(
        isinstance(row, dict) and row.get("segmentation") for row in rows
    )


def _image_of(file_name: str) -> str:
    path = Path(file_name)
    for ending in MASK_ENDINGS:
        if path.stem.endswith(ending):
            return path.with_name(path.stem.removesuffix(ending) + path.suffix).as_posix()
    return file_name


def _box_of(row: Mapping[str, Any], where: str) -> XYXY:
    mask = row.get("segmentation")
    if not mask:
        return coco.bbox_of(row, where)
    if isinstance(mask, list):
        return _hull_of_polygons(mask, where)
    if isinstance(mask, dict):
        return _hull_of_runs(mask, where)
    raise BadInput(f"{where}.segmentation is a {type(mask).__name__}", expected=EXPECTED_MASK)


def _hull_of_polygons(polygons: Sequence[Any], where: str) -> XYXY:
    x: list[float] = []
    y: list[float] = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(coco.is_number(side) for side in polygon):
            raise BadInput(f"{where}.segmentation holds {str(polygon)[:80]}", expected=EXPECTED_MASK)
        sides = [coco.bounded(side) for side in polygon]
        x += sides[::2]
        y += sides[1::2]
    return hull(x, y)


def _hull_of_runs(mask: Mapping[str, Any], where: str) -> XYXY:
    """The box of a run-length code: runs of background and object in turn, down the columns from the left."""
    size, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and 0 < side < 1 << 31 for side in size)):
        raise BadInput(f"{where}.segmentation has the size {size!r}", expected=EXPECTED_MASK)
    if isinstance(counts, str):
        counts = _unpacked(counts, where)
    if not (isinstance(counts, list) and all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in counts)):
        raise BadInput(f"{where}.segmentation has the counts {str(counts)[:80]}", expected=EXPECTED_MASK)
    height, width = size
    if sum(counts) != height * width:
        raise BadInput(f"{where}.segmentation has runs of {sum(counts)} pixels", expected=f"{height} x {width}, its size")
    left, top, right, bottom, start = width, height, 0, 0, 0
    for number, run in enumerate(counts):
        if number % 2 and run:
            (first_column, first_row), (last_column, last_row) = divmod(start, height), divmod(start + run - 1, height)
            spans = last_column > first_column
            left, right = min(left, first_column), max(right, last_column + 1)
            top, bottom = min(top, 0 if spans else first_row), max(bottom, height if spans else last_row + 1)
        start += run
    return float(left), float(top), float(right), float(bottom)


def _unpacked(text: str, where: str) -> list[int]:
    """The runs in COCO's compressed text: five bits a character, the lowest first; from the fourth on, a run less the one two before."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise BadInput(f"{where}.segmentation has the counts {text[:80]!r}", expected=EXPECTED_MASK)
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise BadInput(f"{where}.segmentation has counts that are cut off", expected=EXPECTED_MASK)
    return runs
