"""Pascal VOC xml: one file an image, boxes as (xmin, ymin, xmax, ymax), taken and written as they are, from 0 and with fractions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from connectors.formats.boxes import XYXY, BoxCollector
from connectors.formats.contract import DEFAULTS, NO_SCENES, Pictures, ReadOptions, Scenes, label_set_of, leave_mark
from connectors.formats.naming import stems
from connectors.formats.sources import files_below, read_bytes
from engine.errors import BadInput
from engine.files import atomic_directory
from engine.records import ImageLabels, LabelFile

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["read", "write"]

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LISTS = {"train": "train", "dev": "val", "test": "test"}
"""The lists of images below ``ImageSets/Main``, by split."""
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:  # noqa: ARG001 - the file says it all
    """Read one VOC file, or a folder of them (with its subfolders); classes stand in alphabetical order.

    A box that leaves its image is clipped if a pixel of it remains; else it is listed as unusable, as is one without area or not finite.
    Objects marked difficult are kept, or left out and counted, as ``options`` say.

    Raises:
        BadInput: no file there, not XML, not VOC, an element is missing or no number, or two files speak of the same image.
    """
    path = Path(path)
    files = [file for file in files_below(path, {".xml"}) if not file.name.endswith(".aux.xml")] if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} holds no xml file", expected="a Pascal VOC file, or a folder of them")
    annotations: dict[str, _Annotation] = {}
    for file in files:
        found = _annotation(file)
        if found.image in annotations:
            raise BadInput(f"{file} speaks of {found.image!r}, and so does another file of {path}", expected="one file an image")
        annotations[found.image] = found
    names = sorted({name for found in annotations.values() for name, _, _ in found.objects})
    label_of = {name: label for label, name in enumerate(names)}
    collectors = []
    difficult = 0
    for found in annotations.values():
        collector = BoxCollector(found.image, *found.size)
        for name, is_difficult, xyxy in found.objects:
            if is_difficult and options.difficult == "drop":
                difficult += 1
            else:
                collector.add(xyxy, label_of[name])
        collectors.append(collector)
    return LabelFile(
        label_set_of(names, path),
        tuple(collector.image_labels() for collector in collectors),
        source=path.resolve().name,
        unusable=tuple(box for collector in collectors for box in collector.unusable),
        difficult=difficult,
    )


def write(target: Path, labels: LabelFile, pictures: Pictures | None = None) -> None:
    """Write the folder ``target``, whole or not at all; one that is there is replaced.

    ``Annotations/NAME.xml`` for every image, ``ImageSets/Main/`` with the names of each split (dev is called val), and where there are
    ``pictures``, ``JPEGImages/``. Coordinates that are no whole numbers keep their fractions.

    Raises:
        BadInput: a name that XML cannot hold.
    """
    lists: dict[str, list[str]] = {}
    with atomic_directory(target) as folder:
        for image, stem in zip(labels.images, stems(labels.images), strict=True):
            picture = None if pictures is None else pictures.place(image, folder / "JPEGImages" / stem)
            file = folder / "Annotations" / f"{stem}.xml"
            file.parent.mkdir(parents=True, exist_ok=True)
            name = image.image if picture is None else picture.relative_to(folder / "JPEGImages").as_posix()
            file.write_text("\n".join(_lines(image, name, labels.label_set.names)) + "\n", encoding="utf-8")
            if image.split in LISTS:
                lists.setdefault(LISTS[image.split], []).append(stem)
        (folder / "ImageSets" / "Main").mkdir(parents=True)
        for split, names in lists.items():
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        leave_mark(folder, labels)


def _lines(image: ImageLabels, name: str, classes: Sequence[str]) -> Iterator[str]:
    yield "<annotation>"
    yield f"  <filename>{_escaped(name)}</filename>"
    yield f"  <size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>"
    for xyxy, label in zip(image.boxes_scene.xyxy.tolist(), image.boxes_scene.labels.tolist(), strict=True):
        sides = "".join(f"<{corner}>{_shortest(side)}</{corner}>" for corner, side in zip(CORNERS, xyxy, strict=True))
        yield f"  <object><name>{_escaped(classes[label])}</name><difficult>0</difficult><bndbox>{sides}</bndbox></object>"
    yield "</annotation>"


def _shortest(side: float) -> str:
    return str(int(side)) if side.is_integer() else repr(side)


def _escaped(text: str) -> str:
    if NOT_XML.search(text):
        raise BadInput(
            f"the name {text!r} cannot stand in XML", expected="a name without control characters", remedy="Write another format"
        )
    return escape(text)


class _Annotation(NamedTuple):
    """What a file says: its image, width and height (0 where unknown), and class, difficulty and corners of each object."""

    image: str
    size: tuple[int, int]
    objects: list[tuple[str, bool, XYXY]]


def _annotation(file: Path) -> _Annotation:
    root = _root(file)
    size = (_size(root, "size/width", file), _size(root, "size/height", file)) if root.find("size") is not None else (0, 0)
    objects = []
    for thing in root.iter("object"):
        x1, y1, x2, y2 = (_number(thing, f"bndbox/{corner}", file) for corner in CORNERS)
        objects.append((_text(thing, "name", file), _is_difficult(thing), (x1, y1, x2, y2)))
    return _Annotation(_text(root, "filename", file), size, objects)


def _is_difficult(thing: Element) -> bool:
    return (thing.findtext("difficult") or "0").strip() not in ("", "0")


def _root(file: Path) -> Element:
    try:
        root: Element | None = fromstring(read_bytes(file, "a Pascal VOC xml file"), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as damaged:
        raise BadInput(f"{file} is no safe XML: {damaged}", expected="a Pascal VOC xml file", remedy="Export it again") from damaged
    if root is None or root.tag != "annotation":
        raise BadInput(f"{file} starts with <{'' if root is None else root.tag}>", expected="<annotation>, as in a Pascal VOC file")
    return root


def _text(element: Element, key: str, file: Path) -> str:
    text = (element.findtext(key) or "").strip()
    if not text:
        raise BadInput(
            f"{file}: <{element.tag}> lacks <{key}>", expected="a Pascal VOC xml file", remedy="Repair the file, or leave it out"
        )
    return text


def _size(root: Element, key: str, file: Path) -> int:
    size = _number(root, key, file)
    if not (size >= 0 and size.is_integer()):
        raise BadInput(f"{file}: <{key}> is {size}", expected="a whole number of pixels, 0 where unknown")
    return int(size)


def _number(element: Element, key: str, file: Path) -> float:
    text = _text(element, key, file)
    try:
        return float(text)
    except ValueError as wrong:
        raise BadInput(f"{file}: <{key}> is {text!r}", expected="a number of pixels") from wrong
