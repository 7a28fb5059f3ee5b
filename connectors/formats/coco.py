"""COCO json: object detection labels, ``images`` / ``annotations`` / ``categories`` with boxes as (x, y, width, height)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors.formats.boxes import XYXY, BoxCollector
from connectors.formats.contract import DEFAULTS, NO_SCENES, Pictures, ReadOptions, Scenes, label_set_of, leave_mark
from connectors.formats.naming import stems
from connectors.formats.sources import read_json
from engine.errors import BadInput
from engine.files import atomic_directory, write_lines
from engine.records import LabelFile

__all__ = ["bbox_of", "bounded", "is_number", "load", "read", "read_document", "write", "write_folder"]


def read(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:  # noqa: ARG001 - the file says it all
    """Read a COCO file; classes stand in the order of their ids.

    A box that leaves its image is clipped if a pixel of it remains; else it is listed as unusable, as is one without area or not finite.
    A box marked ``iscrowd`` stands for many objects: it is left out and counted.

    Raises:
        BadInput: not JSON, a key is missing or of another kind, or an annotation names an image or category that the file does not have.
    """
    return read_document(load(path), path)


def read_document(
    document: Mapping[str, Any],
    path: Path,
    *,
    box_of: Callable[[Mapping[str, Any], str], XYXY] | None = None,
    image_of: Callable[[str], str] = str,
) -> LabelFile:
    """What a COCO document says, see :func:`read`.

    Args:
        document: the JSON object.
        path: the file that it comes from, for messages.
        box_of: the box of a row of ``annotations``, and how messages call that row; None for :func:`bbox_of`.
        image_of: the image that a ``file_name`` means.
    """
    categories = sorted(_rows(document, "categories", path), key=lambda row: _number(row, "id", "categories", path))
    label_set = label_set_of([str(_value(row, "name", "categories", path)) for row in categories], path)
    label_of = {_number(row, "id", "categories", path): label for label, row in enumerate(categories)}
    _require_distinct([_number(row, "id", "categories", path) for row in categories], "categories", path)
    images = _rows(document, "images", path)
    _require_distinct([_number(row, "id", "images", path) for row in images], "images", path)
    boxes = {
        _number(row, "id", "images", path): BoxCollector(
            image_of(str(_value(row, "file_name", "images", path))), _size(row, "width", path), _size(row, "height", path)
        )
        for row in images
    }
    crowd = 0
    for position, row in enumerate(_rows(document, "annotations", path)):
        image_id, category_id = _number(row, "image_id", "annotations", path), _number(row, "category_id", "annotations", path)
        for key, wanted, known in (("image_id", image_id, boxes), ("category_id", category_id, label_of)):
            if wanted not in known:
                raise BadInput(
                    f"{path}: annotations[{position}].{key} = {wanted} is in no row of the file",
                    expected="an id that the file lists",
                    remedy="Repair the file, or export it again",
                )
        if row.get("iscrowd"):
            crowd += 1
        else:
            boxes[image_id].add((box_of or bbox_of)(row, f"{path}: annotations[{position}]"), label_of[category_id])
    return LabelFile(
        label_set,
        tuple(collector.image_labels() for collector in boxes.values()),
        source=path.resolve().name,
        unusable=tuple(box for collector in boxes.values() for box in collector.unusable),
        crowd=crowd,
    )


def bbox_of(row: Mapping[str, Any], where: str) -> XYXY:
    """The ``bbox`` of a row of ``annotations`` as corners; a number beyond all bounds is infinite.

    Raises:
        BadInput: it has none, or one that is not four numbers; ``where`` names the row.
    """
    if "bbox" not in row:
        raise BadInput(f"{where} lacks 'bbox'", expected="four numbers: x, y, width, height")
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(side) for side in box):
        raise BadInput(f"{where}.bbox is {box!r}", expected="four numbers: x, y, width, height")
    x, y, width, height = (bounded(side) for side in box)
    return x, y, x + width, y + height


def is_number(value: object) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def bounded(value: float) -> float:
    """A JSON number as a float; one beyond all bounds is infinite."""
    return float(value) if abs(value) < 1e300 else math.inf


def write(path: Path, records: LabelFile) -> None:
    """Write labels, or detections with their scores, to ``path``, atomically; a file that is there is replaced.

    Ids count from 1: images and annotations in their order, categories in the order of the label set. :func:`read` gives the images,
    boxes and classes back, each coordinate to the last bit or the one before, and no scores.
    """
    tables: dict[str, Iterable[dict[str, Any]]] = {
        "images": (
            {"id": number, "file_name": image.image, "width": image.width, "height": image.height}
            for number, image in enumerate(records.images, start=1)
        ),
        "categories": ({"id": number, "name": name} for number, name in enumerate(records.label_set.names, start=1)),
        "annotations": ({"id": number, **row} for number, row in enumerate(_annotations(records), start=1)),
    }
    write_lines(path, _lines(tables))


def _lines(tables: Mapping[str, Iterable[Mapping[str, Any]]]) -> Iterator[str]:
    """A JSON object of lists, a row a line."""
    opening = "{"
    for name, rows in tables.items():
        yield f"{opening}{json.dumps(name)}: ["
        before = ""
        for row in rows:
            if before:
                yield f"{before},"
            before = json.dumps(row, allow_nan=False)
        if before:
            yield before
        opening = "],\n"
    yield "]}"


def write_folder(target: Path, records: LabelFile, pictures: Pictures) -> None:
    """Write the folder ``target`` with ``annotations.json``, see :func:`write`, and the pictures that it names below ``images/``."""
    with atomic_directory(target) as folder:
        named = [
            replace(image, image=pictures.place(image, folder / "images" / stem).relative_to(folder / "images").as_posix())
            for image, stem in zip(records.images, stems(records.images), strict=True)
        ]
        write(folder / "annotations.json", replace(records, images=tuple(named)))
        leave_mark(folder, records)


def _annotations(records: LabelFile) -> Iterator[dict[str, Any]]:
    for image_id, image in enumerate(records.images, start=1):
        boxes = image.boxes_scene
        for row, (x1, y1, x2, y2) in enumerate(boxes.xyxy.tolist()):
            yield {
                "image_id": image_id,
                "category_id": int(boxes.labels[row]) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                **({} if boxes.scores is None else {"score": float(boxes.scores[row])}),
            }


def load(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file.

    Raises:
        BadInput: the file cannot be read, is not JSON, or holds something else.
    """
    return read_json(path, "a COCO json file with images, annotations and categories")


def _rows(document: Mapping[str, Any], key: str, path: Path) -> Sequence[Mapping[str, Any]]:
    rows = document.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(
            f"{path} has no list {key!r}" if rows is None else f"{path}: {key!r} is no list of objects", expected="a COCO json file"
        )
    return rows


def _value(row: Mapping[str, Any], key: str, table: str, path: Path) -> Any:
    if key not in row:
        raise BadInput(f"{path}: a row of {table!r} lacks {key!r}: {str(dict(row))[:120]}", expected=f"{key!r} in every row")
    return row[key]


def _number(row: Mapping[str, Any], key: str, table: str, path: Path) -> int:
    value = _value(row, key, table, path)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{path}: {key!r} in {table!r} is {value!r}", expected="an integer")
    return value


def _size(row: Mapping[str, Any], key: str, path: Path) -> int:
    size = _number(row, key, "images", path) if row.get(key) is not None else 0
    if size < 0:
        raise BadInput(f"{path}: {key!r} of image {row.get('file_name')!r} is {size}", expected="pixels, or nothing")
    return size


def _require_distinct(ids: Sequence[int], table: str, path: Path) -> None:
    twice = [found for found, count in Counter(ids).items() if count > 1]
    if twice:
        raise BadInput(f"{path}: the id {min(twice)} stands twice in {table!r}", expected="distinct ids", remedy="Export the file again")
