"""Pascal VOC xml: one file an image, boxes as (xmin, ymin, xmax, ymax), taken as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, parse

from connectors.formats.boxes import BoxCollector
from engine.errors import BadInput
from engine.label_set import LabelSet
from engine.records import LabelFile

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["read"]

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(path: Path) -> LabelFile:
    """Read one VOC file, or a folder of them (with its subfolders); classes stand in alphabetical order.

    A box that leaves its image is clipped if a pixel of it remains; else it is listed as unusable, as is one without area or not finite.

    Raises:
        BadInput: no file there, not XML, not VOC, an element is missing or no number, or two files speak of the same image.
    """
    path = Path(path)
    files = sorted(file for file in path.rglob("*.xml") if not file.name.endswith(".aux.xml")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} holds no xml file", expected="a Pascal VOC file, or a folder of them")
    roots = {file: _root(file) for file in files}
    names = sorted({_text(thing, "name", file) for file, root in roots.items() for thing in root.iter("object")})
    label_of = {name: label for label, name in enumerate(names)}
    collectors: dict[str, BoxCollector] = {}
    for file, root in roots.items():
        image = _text(root, "filename", file)
        if image in collectors:
            raise BadInput(f"{file} speaks of {image!r}, and so does another file of {path}", expected="one file an image")
        collectors[image] = _collect(image, root, label_of, file)
    return LabelFile(
        LabelSet.of(names),
        tuple(collector.image_labels() for collector in collectors.values()),
        source=path.resolve().name,
        unusable=tuple(box for collector in collectors.values() for box in collector.unusable),
    )


def _collect(image: str, root: Element, label_of: dict[str, int], file: Path) -> BoxCollector:
    width, height = 0, 0
    if root.find("size") is not None:
        width, height = (_size(root, f"size/{side}", file) for side in ("width", "height"))
    collector = BoxCollector(image, width, height)
    for thing in root.iter("object"):
        x1, y1, x2, y2 = (_number(thing, f"bndbox/{corner}", file) for corner in CORNERS)
        collector.add((x1, y1, x2, y2), label_of[_text(thing, "name", file)])
    return collector


def _root(file: Path) -> Element:
    try:
        root: Element | None = parse(file, forbid_dtd=True).getroot()
    except OSError as missing:
        raise BadInput(f"{file} cannot be read: {missing.strerror}", expected="a Pascal VOC xml file") from missing
    except (ParseError, DefusedXmlException, ValueError) as damaged:
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
