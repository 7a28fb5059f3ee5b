"""Label Studio's JSON and XML, as pure functions: boxes in tile pixels ↔ rectangles in percent, classes ↔ label configuration.

A rectangle's x, y, width and height are percent of the image's sides; it is turned by ``rotation`` degrees, clockwise, around its upper
left corner.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

import defusedxml.ElementTree
import numpy as np

from engine.annotation_server import MOST_BOXES, DrawnBoxes, Suggestion, TileTask
from engine.boxes import Boxes
from engine.errors import BadInput
from engine.label_set import LabelSet

__all__ = [
    "addresses_of",
    "as_prediction",
    "as_task",
    "config_differences",
    "digest_of",
    "is_ours",
    "label_config",
    "read_boxes",
    "rectangle",
    "region_prefix",
    "task_data",
]

CONTROL, OBJECT = "label", "image"
RECTANGLES = "rectanglelabels"
SMALLEST_SIDE_PIXELS = 1.0
SILENT_CLIP_PIXELS = 0.01
"""What lies outside the image by no more than this is cut off without a word."""
LARGEST_NUMBER = 1e9
OURS = "tilehawk-"
DRAWING = re.compile("(?:Rectangle|Polygon|Brush|Ellipse|KeyPoint|Vector|Bitmask)(?:Labels)?|Magicwand")
"""Tags of Label Studio that draw on a picture."""
UPLOADED = re.compile(r"upload/\d+/[0-9a-f]{8}-(.+)")
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def label_config(label_set: LabelSet) -> str:
    """The label configuration for drawing boxes of these classes.

    Raises:
        BadInput: a class name that Label Studio cannot have.
    """
    for name in label_set.names:
        if UNWRITABLE.search(name) or name.startswith("$"):
            raise BadInput(
                f"the class name {name!r}",
                expected="a name without control characters that does not begin with '$', which Label Studio takes for a variable",
                remedy="Rename the class",
            )
    view = ET.Element("View")
    ET.SubElement(view, "Image", {"name": OBJECT, "value": f"${OBJECT}", "zoom": "true", "zoomControl": "true"})
    control = ET.SubElement(view, "RectangleLabels", {"name": CONTROL, "toName": OBJECT, "canRotate": "false", "smart": "true"})
    for name in label_set.names:
        ET.SubElement(control, "Label", {"value": name})
    return ET.tostring(view, encoding="unicode")


def config_differences(label_set: LabelSet, found: str) -> list[str]:
    """What in the configuration ``found`` keeps it from bringing back boxes of exactly these classes, in words; empty when nothing does.

    Colours, hotkeys, the order of classes, headers and questions beside the picture may differ: what they bring is noted and left out.
    Another tool to draw with may not, for what is drawn with it could not be taken in.
    """
    try:
        root = defusedxml.ElementTree.fromstring(found)
    except (defusedxml.ElementTree.ParseError, defusedxml.DefusedXmlException, ValueError):
        return ["it is not readable as XML"]
    differences = []
    ours = [each for each in root.iter("RectangleLabels") if each.get("name") == CONTROL and each.get("toName") == OBJECT]
    if others := sorted({each.tag for each in root.iter() if DRAWING.fullmatch(each.tag) and each not in ours[:1]} if ours else ()):
        differences.append(f"it has other tools to draw with: {', '.join(others)}")
    if not any(each.get("name") == OBJECT and each.get("value") == f"${OBJECT}" for each in root.iter("Image")):
        differences.append(f'it has no <Image name="{OBJECT}" value="${OBJECT}">')
    if not ours:
        return [*differences, f'it has no <RectangleLabels name="{CONTROL}" toName="{OBJECT}">']
    theirs = [each.get("value", "") for each in ours[0].iter("Label")]
    if lacking := [name for name in label_set.names if name not in theirs]:
        differences.append(f"it lacks the classes {lacking}")
    if extra := sorted(set(theirs) - set(label_set.names)):
        differences.append(f"it has the classes {extra} in addition")
    if aliased := [each.get("value", "") for each in ours[0].iter("Label") if each.get("alias") not in {None, each.get("value")}]:
        differences.append(f"it gives the classes {aliased} another name by alias")
    return differences


def task_data(task: TileTask) -> dict[str, Any]:
    """The ``data`` of a task."""
    return {
        OBJECT: task.image,
        "tilehawk": task.key,
        "content": task.content_hash,
        "tile_id": task.tile_id,
        "scene": task.scene,
        "x": task.x,
        "y": task.y,
        "reason": task.reason,
    }


def addresses_of(files: Iterable[str]) -> dict[str, str]:
    """The addresses of uploaded files by the names under which they were sent: the server puts eight digits and a dash before them."""
    named = ((UPLOADED.fullmatch(file), file) for file in files)
    return {found[1]: f"/data/{file}" for found, file in named if found}


def as_task(task: TileTask, label_set: LabelSet) -> dict[str, Any]:
    """A task to import, with its suggestion as one prediction."""
    prediction = as_prediction(task, label_set)
    return {"data": task_data(task), "predictions": [] if prediction is None else [prediction]}


def region_prefix(content_hash: str) -> str:
    """How the ids of the regions of our prediction begin: by it we know our predictions, and which content they show."""
    return f"{OURS}{content_hash[:16]}-"


def is_ours(prediction: Mapping[str, Any]) -> bool:
    """Whether a prediction on the server was made by :func:`as_prediction`."""
    regions = prediction.get("result") or []
    return bool(regions) and all(isinstance(each, dict) and str(each.get("id", "")).startswith(OURS) for each in regions)


def as_prediction(task: TileTask, label_set: LabelSet) -> dict[str, Any] | None:
    """The suggestion as a prediction; None where there is no box to show."""
    shown = task.suggestion
    if shown is None or not len(shown.boxes_tile):
        return None
    regions = [
        {**_rectangle(shown, index, task, label_set), "id": f"{region_prefix(task.content_hash)}{index}"} for index in _indices(shown)
    ]
    prediction: dict[str, Any] = {"model_version": shown.model, "result": regions}
    if shown.score is not None:
        prediction["score"] = shown.score
    return prediction


def _indices(shown: Suggestion) -> range:
    return range(len(shown.boxes_tile))


def _rectangle(shown: Suggestion, index: int, task: TileTask, label_set: LabelSet) -> dict[str, Any]:
    return rectangle(shown.boxes_tile.xyxy[index].tolist(), label_set.names[int(shown.boxes_tile.labels[index])], task.width, task.height)


def rectangle(xyxy: Sequence[float], name: str, width: int, height: int) -> dict[str, Any]:
    """A region without an id: a box (x1, y1, x2, y2) in pixels of a tile of ``width`` × ``height``, of the class ``name``."""
    x1, y1, x2, y2 = xyxy
    value = {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
        "rotation": 0,
        RECTANGLES: [name],
    }
    return {
        "type": RECTANGLES,
        "from_name": CONTROL,
        "to_name": OBJECT,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }


def digest_of(kind: str, annotation: Mapping[str, Any] | None) -> str:
    """Changes with whatever is taken from an annotation: which it is, its regions, the time it took."""
    found = annotation or {}
    parts = [kind, found.get("id"), found.get("result"), found.get("lead_time")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def read_boxes(result: Sequence[Any], width: int, height: int, label_set: LabelSet) -> DrawnBoxes:
    """The rectangles of an annotation's ``result`` on a tile of ``width`` × ``height`` pixels.

    A turned rectangle becomes its envelope; one that sticks out is cut off, if at least a pixel by a pixel remains; both are noted. One
    with numbers that are no rectangle, on a picture of another size, or of a class that is not ours is not taken, and named. What is no
    region at all, such as a comment or a choice, is noted.
    """
    if len(result) > MOST_BOXES:
        return DrawnBoxes(Boxes.empty(), rejected=(f"{len(result)} regions in one answer; at most {MOST_BOXES} are taken in",))
    xyxy: list[list[float]] = []
    labels: list[int] = []
    words: dict[str, list[str]] = {"notes": [], "rejected": [], "conflicts": []}
    for number, region in enumerate(result, start=1):
        box, label, said = _read_region(region, width, height, label_set)
        for kind, sentence in said:
            words[kind].append(f"region {number}: {sentence}")
        if box is not None and label is not None:
            xyxy.append(box)
            labels.append(label)
    boxes = Boxes(np.asarray(xyxy, dtype=np.float64).reshape(-1, 4), np.asarray(labels, dtype=np.int64))
    return DrawnBoxes(boxes, tuple(words["notes"]), tuple(words["rejected"]), tuple(words["conflicts"]))


Said = list[tuple[str, str]]


def _read_region(region: Any, width: int, height: int, label_set: LabelSet) -> tuple[list[float] | None, int | None, Said]:
    value = region.get("value") if isinstance(region, dict) else None
    if not isinstance(region, dict) or not isinstance(value, dict):
        return None, None, [("rejected", "it is not written as a region")]
    if region.get("type") != RECTANGLES:
        kind = str(region.get("type"))
        drawn = any(key in value for key in ("x", "points", "rle", "vertices"))
        return None, None, [("rejected", f"a {kind!r}, not a rectangle")] if drawn else [("notes", f"a {kind!r} was left out")]
    problem = _frame_problem(region, width, height)
    if problem:
        return None, None, [("rejected", problem)]
    numbers = [value.get(key) for key in ("x", "y", "width", "height")] + [value.get("rotation", 0) or 0]
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool) and abs(each) <= LARGEST_NUMBER for each in numbers):
        return None, None, [("rejected", f"its numbers are {numbers}")]
    if region.get("from_name", CONTROL) != CONTROL:
        return None, None, [("conflicts", f"it was drawn with the tool {str(region['from_name'])!r}, not with {CONTROL!r}")]
    box, said = _clipped(*(float(each) for each in numbers), width=width, height=height)  # type: ignore[arg-type]
    if box is None:
        return None, None, said
    names = value.get(RECTANGLES)
    if not isinstance(names, list) or len(names) != 1:
        return None, None, [("rejected", f"it has the classes {names!r} instead of one")]
    if names[0] not in label_set.names:
        place = ", ".join(f"{edge:.2f}" for edge in box)
        return None, None, [("conflicts", f"the class {str(names[0])!r} is not one of {list(label_set.names)}; its box is [{place}]")]
    return box, label_set.names.index(names[0]), said


def _frame_problem(region: Mapping[str, Any], width: int, height: int) -> str | None:
    """Why the percents of ``region`` are not percents of our tile; None when they are."""
    size = region.get("original_width", width), region.get("original_height", height)
    if size != (width, height):
        return f"it was drawn on a picture of {size[0]} × {size[1]} pixels; the tile has {width} × {height}"
    if region.get("image_rotation"):
        return f"it was drawn on the picture turned by {region['image_rotation']} degrees"
    return None


def _clipped(x: float, y: float, w: float, h: float, rotation: float, *, width: int, height: int) -> tuple[list[float] | None, Said]:
    """The envelope in pixels of a rectangle in percent, cut off at the tile's borders."""
    left, top, across, down = x * width / 100, y * height / 100, w * width / 100, h * height / 100
    if not (across > 0 and down > 0):
        return None, [("rejected", f"its sides are {across:.6g} × {down:.6g} pixels")]
    said: Said = []
    xyxy = [left, top, left + across, top + down]
    if rotation % 360:
        xyxy = _envelope(left, top, across, down, math.radians(rotation))
        corner = f"({left:.2f}, {top:.2f})"
        said.append(("notes", f"turned by {rotation:g} degrees around {corner}, {across:.2f} × {down:.2f} pixels; taken as its envelope"))
    clipped = [min(max(edge, 0.0), float(side)) for edge, side in zip(xyxy, (width, height, width, height), strict=True)]
    if min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < SMALLEST_SIDE_PIXELS:
        place = ", ".join(f"{edge:.6g}" for edge in xyxy)
        return None, [("rejected", f"less than a pixel by a pixel of [{place}] lies on the tile of {width} × {height}")]
    if max(abs(before - after) for before, after in zip(xyxy, clipped, strict=True)) > SILENT_CLIP_PIXELS:
        place = ", ".join(f"{edge:.2f}" for edge in xyxy)
        said.append(("notes", f"[{place}] sticks out of the tile and was cut off"))
    return clipped, said


def _envelope(left: float, top: float, across: float, down: float, angle: float) -> list[float]:
    cosine, sine = math.cos(angle), math.sin(angle)
    xs = [left, left + across * cosine, left - down * sine, left + across * cosine - down * sine]
    ys = [top, top + across * sine, top + down * cosine, top + across * sine + down * cosine]
    return [min(xs), min(ys), max(xs), max(ys)]
