"""DOTA: one text file an image, a line an object: four corners in pixels, class, and whether it is difficult."""

from __future__ import annotations

from pathlib import Path

from connectors.formats.boxes import XYXY, BoxCollector, hull
from connectors.formats.contract import DEFAULTS, NO_SCENES, ReadOptions, Scenes, label_set_of
from connectors.formats.sources import files_below, read_lines, refuse_lines
from engine.errors import BadInput
from engine.records import LabelFile

__all__ = ["is_object_line", "read"]

HEADERS = ("imagesource:", "gsd:")
EXPECTED = "x1 y1 x2 y2 x3 y3 x4 y4 class difficult, in pixels"
CORNER_NUMBERS = 8


def read(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:
    """Read one DOTA text file, or a folder of them (with its subfolders); classes stand in alphabetical order.

    An image is called as its file, without the suffix. The box of an object is the upright hull of its corners; the turn is lost.
    Difficult objects (1 or 2 at the end of the line) are kept, or left out and counted, as ``options`` say. The size of an image is that
    of the scene it means, where there is one: boxes are clipped to it by the rules of every format.

    Raises:
        BadInput: no file there, no UTF-8, or lines that are no object of DOTA, named by file and line.
    """
    path = Path(path)
    files = files_below(path, {".txt"}) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} holds no txt file", expected="a DOTA label file, or a folder of them")
    problems: list[str] = []
    objects = {file: _objects(file, problems) for file in files}
    refuse_lines(problems, EXPECTED)
    names = sorted({name for found in objects.values() for _, _, name, _ in found})
    label_of = {name: label for label, name in enumerate(names)}
    dropped = 0
    collectors = []
    for file, found in objects.items():
        meant = scenes.find(_image(file, path))
        width, height = (meant[0].width, meant[0].height) if len(meant) == 1 else (0, 0)
        collector = BoxCollector(_image(file, path), width, height)
        for number, xyxy, name, difficult in found:
            if difficult and options.difficult == "drop":
                dropped += 1
            else:
                collector.add(xyxy, label_of[name], where=f"line {number}")
        collectors.append(collector)
    return LabelFile(
        label_set_of(names, path),
        tuple(collector.image_labels() for collector in collectors),
        source=path.resolve().name,
        unusable=tuple(box for collector in collectors for box in collector.unusable),
        difficult=dropped,
    )


def is_object_line(line: str) -> bool:
    """Whether a line of text can be an object of DOTA, or one of the two lines before them."""
    return line.strip().lower().startswith(HEADERS) or isinstance(_parsed(line), tuple)


def _image(file: Path, path: Path) -> str:
    return file.relative_to(path).as_posix() if path.is_dir() else file.name


def _objects(file: Path, problems: list[str]) -> list[tuple[int, XYXY, str, bool]]:
    """Line number, hull, class and difficulty of each object; lines that are none join ``problems``."""
    found = []
    for number, line in enumerate(read_lines(file, "a DOTA label file"), start=1):
        if not line.strip() or line.strip().lower().startswith(HEADERS):
            continue
        parsed = _parsed(line)
        if isinstance(parsed, str):
            problems.append(f"{file}, line {number}: {parsed}")
        else:
            found.append((number, *parsed))
    return found


def _parsed(line: str) -> tuple[XYXY, str, bool] | str:
    """Hull, class and difficulty of a line, or what is wrong with it."""
    parts = line.split()
    if not CORNER_NUMBERS + 1 <= len(parts) <= CORNER_NUMBERS + 2:
        return f"{len(parts)} fields"
    try:
        numbers = [float(part) for part in parts[:CORNER_NUMBERS]]
    except ValueError:
        return f"{' '.join(parts[:CORNER_NUMBERS])[:80]!r} are no eight numbers"
    difficult = parts[CORNER_NUMBERS + 1] if len(parts) > CORNER_NUMBERS + 1 else "0"
    if difficult not in ("0", "1", "2"):
        return f"{difficult[:20]!r} for difficult"
    return hull(numbers[::2], numbers[1::2]), parts[CORNER_NUMBERS], difficult != "0"
