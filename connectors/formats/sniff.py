"""Which format labels are written in, by what is in their file or folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from connectors.formats import dota, geopackage, isaid, shapefile, yolo
from connectors.formats.contract import MARK
from connectors.formats.sources import dataset_root, files_below, head_of, read_json
from connectors.formats.yolo_dataset import is_dataset
from engine.errors import BadInput

__all__ = ["located"]

KNOWN = "COCO or iSAID json, Pascal VOC xml, a YOLO or DOTA folder, a GeoPackage, GeoJSON or shapefile"
ONE_FILE = {
    "coco": (".json",),
    "isaid": (".json",),
    "gpkg": (".gpkg",),
    "geojson": (".geojson", ".json"),
    "shapefile": (".shp",),
}
"""Formats of one file, with the ends of its name, for finding it in a folder."""
SQLITE = b"SQLite format 3\x00"
TEXTS_LOOKED_INTO = 50


def located(path: Path, asked: str | None) -> tuple[str, Path]:
    """The format of the labels at ``path``, and the file or folder that its reader wants.

    A folder may hold the one file of its format and the pictures beside it.

    Args:
        path: a file or a folder.
        asked: the format where somebody said so; its content is not asked then.

    Raises:
        BadInput: there is nothing at ``path``, or nothing of a known format, or of several.
    """
    if not path.exists():
        raise BadInput(f"no label file at {path}", expected=KNOWN, remedy="Check the path")
    if not path.is_dir():
        return asked or _of_file(path), path
    if asked in ONE_FILE:
        return asked, _only(path, ONE_FILE[asked])
    return (asked, path) if asked is not None else _of_folder(path)


def _of_file(path: Path) -> str:
    head = head_of(path)
    if head.startswith(SQLITE):
        if head[68:72] not in geopackage.APPLICATION_IDS:
            raise BadInput(f"{path} is an SQLite file, and no GeoPackage", expected=KNOWN)
        return "gpkg"
    if head.startswith(shapefile.MAGIC):
        return "shapefile"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return "voc"
    if text.startswith((b"{", b"[")):
        return _of_json(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return "yolo"
    found = _of_text(path) if path.suffix.lower() == ".txt" else None
    if found == "yolo":
        raise BadInput(
            f"{path} is one label file of a YOLO folder", expected="the folder, which names the classes", remedy="Name the folder"
        )
    if found is None:
        raise BadInput(f"the labels {path} are in no known format", expected=KNOWN, remedy="Say which it is (--format), or convert them")
    return found


def _of_json(path: Path) -> str:
    document = read_json(path, KNOWN)
    if "features" in document or document.get("type") == "FeatureCollection":
        return "geojson"
    return "isaid" if isaid.written_as_isaid(document) else "coco"


def _of_text(path: Path) -> str | None:
    """``dota`` or ``yolo`` by the first line that is not empty; None for neither."""
    text = head_of(path).decode("utf-8-sig", "replace")
    first = next((line for line in text.splitlines() if line.strip()), "")
    kinds: Sequence[tuple[str, Callable[[str], bool]]] = (("dota", dota.is_object_line), ("yolo", yolo.is_object_line))
    return next((kind for kind, fits in kinds if fits(first)), None)


def _of_folder(folder: Path) -> tuple[str, Path]:
    root = dataset_root(folder)
    if is_dataset(root):
        return "yolo", root
    singles = [file for file in files_below(root, {".json", ".geojson", ".gpkg", ".shp"}) if file.name != MARK]
    found = {_of_file(file): file for file in singles}
    if any(not file.name.endswith(".aux.xml") for file in files_below(root, {".xml"})):
        found["voc"] = root
    texts = {_of_text(file) for file in files_below(root, {".txt"})[:TEXTS_LOOKED_INTO]}
    found |= dict.fromkeys([kind for kind in texts if kind is not None], root)
    if not found:
        raise BadInput(f"{folder} holds no labels", expected=KNOWN)
    if len(found) > 1 or len(singles) > 1:
        listed = ", ".join(file.relative_to(root).as_posix() for file in singles[:5])
        raise BadInput(
            f"{folder} holds labels of several kinds: {', '.join(sorted(found))}{f' ({listed})' if listed else ''}",
            expected="labels of one",
            remedy="Name the file or folder that is meant, or the format (--format)",
        )
    return next(iter(found.items()))


def _only(folder: Path, suffixes: Sequence[str]) -> Path:
    files = [file for file in files_below(folder, suffixes) if file.name != MARK]
    if len(files) != 1:
        listed = ", ".join(file.relative_to(folder).as_posix() for file in files[:5]) or "none"
        raise BadInput(f"{folder} holds {len(files)} files that may be meant: {listed}", expected="one", remedy="Name the file")
    return files[0]
