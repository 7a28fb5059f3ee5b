"""What a folder in YOLO's layout holds: its class names, its pictures, and the label file of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from connectors.formats.sources import IMAGE_SUFFIXES, dataset_root, files_below, read_bytes, read_lines, require_inside
from engine.errors import BadInput

__all__ = ["IMAGES", "Dataset", "find_dataset", "is_dataset"]

NAME_LISTS = ("classes.txt", "obj.names")
IMAGE_LISTS = ("train.txt", "val.txt", "test.txt")
LABELS, IMAGES = "labels", "images"
YAML_SUFFIXES = frozenset({".yaml", ".yml"})
LONGEST_YAML = 1 << 20
EXPECTED = "a folder with data.yaml (names) or classes.txt, and label files below labels/"


@dataclass(frozen=True)
class Dataset:
    """A folder in YOLO's layout.

    ``names`` are the classes by their ids; ``keypoints`` how many numbers follow the box in every line; ``label_files`` the label file of
    each image by the image's path below the folder, None for an image without one.
    """

    root: Path
    names: Mapping[int, str]
    keypoints: int
    label_files: Mapping[str, Path | None]


def is_dataset(folder: Path) -> bool:
    """Whether a folder looks like one: a yaml with names, or a list of names."""
    root = dataset_root(folder)
    return bool(_described(root)) or _name_list(root) is not None


def find_dataset(path: Path) -> Dataset:
    """The dataset in a folder, or beside its yaml file.

    Label files are the text files below folders called ``labels``, or all of the folder where there is no such folder; pictures lie at the
    same place below ``images``. What the yaml says of train, val and test does not matter: splits are the workspace's. A picture without
    a label file is one without objects, as YOLO has it.

    Raises:
        BadInput: no class names, a yaml that makes no sense, no label file, a folder that cannot be read, or a link that leads out.
    """
    root = dataset_root(path) if path.is_dir() else path.parent
    names, keypoints = _classes(root, path)
    files = files_below(root, {".txt"})
    labels = [file for file in files if LABELS in file.relative_to(root).parts[:-1]]
    nested = bool(labels)
    labels = [file for file in (labels or files) if file.name not in (*NAME_LISTS, *(() if nested else IMAGE_LISTS))]
    pictures = [
        picture
        for picture in files_below(root, IMAGE_SUFFIXES, to_read=False)
        if not nested or IMAGES in picture.relative_to(root).parts[:-1]
    ]
    at = {file.relative_to(root).as_posix(): file for file in labels}
    places = {picture.relative_to(root).as_posix(): _label_place(picture.relative_to(root)) for picture in pictures}
    found: dict[str, Path | None] = {picture: at.get(place) for picture, place in places.items()}
    found |= {name: file for name, file in at.items() if name not in places.values()}
    if not at:
        raise BadInput(
            f"{root} holds {len(found) or 'no'} pictures and no label file",
            expected=EXPECTED,
            remedy="Name the folder with both, or where no picture shows an object, write an empty label file for one at least",
        )
    return Dataset(root, names, keypoints, found)


def _label_place(picture: Path) -> str:
    """Where the label file of a picture lies: below the last folder called images, which is called labels there."""
    parts = list(picture.with_suffix(".txt").parts)
    folders = [depth for depth, part in enumerate(parts[:-1]) if part == IMAGES]
    if folders:
        parts[folders[-1]] = LABELS
    return PurePosixPath(*parts).as_posix()


def _classes(root: Path, path: Path) -> tuple[dict[int, str], int]:
    described = [path] if path.is_file() else _described(root)
    if len(described) > 1:
        raise BadInput(
            f"{root} holds several yaml files with names: {', '.join(file.name for file in described)}",
            expected="one",
            remedy=f"Name the one that is meant: {described[0]}",
        )
    if described:
        return _from_yaml(described[0])
    listed = _name_list(root)
    if listed is None:
        raise BadInput(f"{root} names no classes", expected=EXPECTED, remedy="Write the names into classes.txt, one a line")
    names = [name.strip() for name in read_lines(listed, "class names, one a line")]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise BadInput(f"{listed} is empty", expected="class names, one a line")
    return dict(enumerate(names)), 0


def _described(root: Path) -> list[Path]:
    """The yaml files directly in the folder that speak of class names."""
    files = [file for file in files_below(root, YAML_SUFFIXES) if file.parent == root]
    return [file for file in files if file.stat().st_size <= LONGEST_YAML and b"names" in file.read_bytes()]


def _name_list(root: Path) -> Path | None:
    places = [folder / name for folder in (root, root / LABELS) for name in NAME_LISTS]
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        require_inside(found, root)
    return found


def _from_yaml(file: Path) -> tuple[dict[int, str], int]:
    import yaml

    content = read_bytes(file, "a YOLO data.yaml", LONGEST_YAML)
    try:
        document = yaml.load(content, Loader=yaml.BaseLoader)  # noqa: S506 - makes nothing but text, lists and mappings
    except (yaml.YAMLError, RecursionError, ValueError) as damaged:
        found = " ".join(str(damaged).split())[:200]
        raise BadInput(f"{file} is not YAML: {found}", expected="a YOLO data.yaml", remedy="Mend it") from damaged
    if not isinstance(document, dict):
        raise BadInput(f"{file} holds a {type(document).__name__}", expected="a mapping with names")
    names = _names(document.get("names"), file)
    if "nc" in document and document["nc"] != str(len(names)):
        raise BadInput(
            f"{file}: nc is {_shown(document['nc'])}, and there are {len(names)} names", expected="as many", remedy="Mend one of them"
        )
    return names, _keypoint_numbers(document.get("kpt_shape"), file)


def _names(names: Any, file: Path) -> dict[int, str]:
    pairs = list(enumerate(names)) if isinstance(names, list) else list(names.items()) if isinstance(names, dict) else []
    found: dict[int, str] = {}
    for key, name in pairs:
        if not isinstance(name, str) or not isinstance(key, int | str) or not str(key).isdecimal():
            raise BadInput(
                f"{file}: {_shown(key)} in names is {_shown(name)}", expected="a list of names, or a mapping from numbers to names"
            )
        found[int(key)] = name.strip()
    if not found:
        raise BadInput(f"{file} has no names", expected="names: a list, or a mapping from numbers to names")
    return dict(sorted(found.items()))


def _keypoint_numbers(shape: Any, file: Path) -> int:
    if shape is None:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, str) and side.isdecimal() for side in shape)):
        raise BadInput(f"{file}: kpt_shape is {_shown(shape)}", expected="two numbers: keypoints, and numbers of each")
    return int(shape[0]) * int(shape[1])


def _shown(value: Any) -> str:
    """A value for a message; of anything but text its kind alone, for aliases make a few bytes of YAML a text of gigabytes."""
    return repr(value[:80]) if isinstance(value, str) else str(value) if isinstance(value, int) else f"a {type(value).__name__}"
