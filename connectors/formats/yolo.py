"""YOLO: a text file an image, a line an object, coordinates as shares of the image; read with the sizes of the scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from connectors.formats.boxes import XYXY, BoxCollector, hull
from connectors.formats.contract import DEFAULTS, NO_SCENES, Pictures, ReadOptions, Scenes, label_set_of, leave_mark
from connectors.formats.naming import stems
from connectors.formats.sources import read_lines, refuse_lines
from connectors.formats.yolo_dataset import IMAGES, Dataset, find_dataset
from engine.files import atomic_directory
from engine.records import ImageLabels, LabelFile

__all__ = ["is_object_line", "read", "write"]

EXPECTED = "a class number, then centre x, centre y, width, height or three corners and more, as shares of the image"
TOLERANCE = 0.01
"""How far a share may lie outside of 0 and 1: tools let polygons stick out of the picture a little."""
LARGEST_CLASS = 1_000_000
SPLITS = {"train": "train", "dev": "val", "test": "test"}
NO_SPLIT = "unsplit"
DECIMALS = 10
"""of a share: less than a hundred-thousandth of a pixel in the largest image"""


def read(path: Path, scenes: Scenes = NO_SCENES, options: ReadOptions = DEFAULTS) -> LabelFile:  # noqa: ARG001 - one contract
    """Read a dataset in YOLO's layout, a folder or its yaml file; see :func:`connectors.formats.yolo_dataset.find_dataset`.

    A line of a class and four numbers is a box; one of six numbers and more a polygon, of which the upright hull is taken; where the
    yaml has ``kpt_shape``, keypoints follow the box and are left out. An image of which no scene is known has no size, so no boxes. A
    number that is no share of the image, or not finite, makes its box unusable.

    Raises:
        BadInput: the folder is no such dataset; or lines that are no object, or of a class without a name, by file and line.
    """
    dataset = find_dataset(Path(path))
    label_of = {number: label for label, number in enumerate(dataset.names)}
    problems: list[str] = []
    collectors = []
    for place, file in dataset.label_files.items():
        image = _named(place, scenes)
        meant = scenes.find(image)
        width, height = (meant[0].width, meant[0].height) if len(meant) == 1 else (0, 0)
        collectors.append(BoxCollector(image, width, height))
        if file is not None:
            _collect(collectors[-1], file, dataset, label_of, problems)
    refuse_lines(problems, EXPECTED)
    return LabelFile(
        label_set_of(list(dataset.names.values()), dataset.root),
        tuple(collector.image_labels() for collector in collectors),
        source=Path(path).resolve().name,
        unusable=tuple(box for collector in collectors for box in collector.unusable),
    )


def is_object_line(line: str) -> bool:
    """Whether a line of text can be an object of YOLO."""
    return not isinstance(_parsed(line, 0), str)


def write(target: Path, labels: LabelFile, pictures: Pictures | None = None) -> None:
    """Write the folder ``target``, whole or not at all; one that is there is replaced.

    ``data.yaml`` with the names, ``labels/SPLIT/NAME.txt`` for every image (dev is called val; an image of no split is ``unsplit`` and in
    none of the lists of ``data.yaml``), and where there are ``pictures``, ``images/SPLIT/NAME``. Shares have ten decimals. A folder called
    images within NAME is written ``images_``: tools look for the label file of a picture below ``labels`` in place of the last ``images``.
    """
    import yaml

    with atomic_directory(target) as folder:
        splits = dict.fromkeys(SPLITS.get(image.split or "", NO_SPLIT) for image in labels.images)
        for image, stem in zip(labels.images, stems(labels.images, {IMAGES}), strict=True):
            split = SPLITS.get(image.split or "", NO_SPLIT)
            file = folder / "labels" / split / f"{stem}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{line}\n" for line in _lines(image)), encoding="utf-8")
            if pictures is not None:
                pictures.place(image, folder / "images" / split / stem)
        lists = {split: f"images/{split}" for split in SPLITS.values() if split in splits}
        document = {**lists, "names": dict(enumerate(labels.label_set.names))}
        (folder / "data.yaml").write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), encoding="utf-8")
        leave_mark(folder, labels)


def _named(place: str, scenes: Scenes) -> str:
    """The image of a label file or picture, with the folders called images that :func:`write` renamed where only those lead to a scene."""
    path = PurePosixPath(place)
    original = PurePosixPath(*(IMAGES if part == f"{IMAGES}_" else part for part in path.parts)).as_posix()
    return original if original != place and len(scenes.find(place)) != 1 and len(scenes.find(original)) == 1 else place


def _lines(image: ImageLabels) -> list[str]:
    size = (image.width, image.height)
    found = []
    for (x1, y1, x2, y2), label in zip(image.boxes_scene.xyxy.tolist(), image.boxes_scene.labels.tolist(), strict=True):
        shares = [(x1 + x2) / 2 / size[0], (y1 + y2) / 2 / size[1], (x2 - x1) / size[0], (y2 - y1) / size[1]]
        found.append(" ".join([str(label), *(f"{share:.{DECIMALS}f}" for share in shares)]))
    return found


def _collect(collector: BoxCollector, file: Path, dataset: Dataset, label_of: Mapping[int, int], problems: list[str]) -> None:
    """Take the boxes of a label file in; lines that are none join ``problems``."""
    name = file.relative_to(dataset.root).as_posix()
    for number, line in enumerate(read_lines(file, "a YOLO label file"), start=1):
        if not line.strip():
            continue
        parsed = _parsed(line, dataset.keypoints)
        if isinstance(parsed, str):
            problems.append(f"{name}, line {number}: {parsed}")
        elif parsed[0] not in label_of:
            problems.append(f"{name}, line {number}: class {parsed[0]}, and there are names for {_spans(dataset.names)}")
        elif collector.width:
            _add(collector, parsed[1], label_of[parsed[0]], where=f"{name}, line {number}")


def _add(collector: BoxCollector, shares: list[float], label: int, *, where: str) -> None:
    outside = [share for share in shares if math.isfinite(share) and not -TOLERANCE <= share <= 1 + TOLERANCE]
    if outside:
        collector.reject(shares, f"{outside[0]:g} is no share of the image", where=where)
        return
    if len(shares) == 4:
        x, y, width, height = shares
        box: XYXY = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        box = hull(shares[::2], shares[1::2])
    sides = (collector.width, collector.height) * 2
    x1, y1, x2, y2 = (share * side for share, side in zip(box, sides, strict=True))
    collector.add((x1, y1, x2, y2), label, where=where)


def _parsed(line: str, keypoints: int) -> tuple[int, list[float]] | str:
    """Class and shares of a line (four of a box, six and more of a polygon), or what is wrong with it."""
    parts = line.split()
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return f"{line.strip()[:80]!r} is not made of numbers"
    if not numbers or not numbers[0].is_integer() or not 0 <= numbers[0] <= LARGEST_CLASS:
        return f"the class {''.join(parts[:1])[:20]!r}"
    shares = numbers[1 : 5 if keypoints else None]
    if keypoints and len(numbers) != 5 + keypoints:
        return f"{len(numbers)} fields, where kpt_shape makes them {5 + keypoints}"
    if len(shares) != 4 and (len(shares) < 6 or len(shares) % 2):
        return f"{len(numbers)} fields"
    return int(numbers[0]), shares


def _spans(names: Mapping[int, str]) -> str:
    return f"{min(names)} to {max(names)}" if len(names) > 1 else str(min(names))
