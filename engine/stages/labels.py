"""``labels import``: boxes of a label file become annotations of the scenes that it names, all of them or none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field
from sqlalchemy.orm import Session

from engine.catalog import ledger
from engine.catalog.annotations import set_label_set
from engine.catalog.label_rows import Changes, Key, SceneState, fitted_source, load_states, settle_source, write_boxes
from engine.catalog.lookup import SceneNames
from engine.catalog.schema import LabelSetRow, Scene
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, LabelSetMismatch
from engine.label_set import LabelSet
from engine.progress import Progress, silent, track
from engine.records import ImageLabels, LabelFile, UnusableBox

__all__ = ["MOST_NAMED", "LabelConfig", "LabelReport", "import_labels"]

MOST_NAMED = 100
"""The report names so many boxes and images that were left out; it counts all of them."""


class LabelConfig(StageConfig):
    """How a label file is taken in."""

    withhold: bool = False
    """keep the boxes on train ground for the oracle, who shows them as rounds pay for them; dev and test ground is labelled at once"""
    allow_unknown_images: bool = False
    """go on where the file names images that are not in the workspace, and list them"""
    class_map: dict[str, str] = Field(default_factory=dict)
    """from class names of the file to class names of the workspace; several may become one"""
    label_set: tuple[str, ...] | None = None
    """the workspace's classes in their order, where they shall not be those of the first label file"""
    complete: bool = True
    """the file holds every object of the images that it names, so their tiles count as reviewed; else its boxes alone are taken"""


@dataclass(frozen=True)
class LabelReport:
    """What an import did.

    ``left_out`` counts the boxes that cannot be used, ``unusable`` lists the first of them by image and reason; ``crowd`` counts those that
    stood for many objects, ``difficult`` those dropped because they are marked so. ``unknown_images`` lists the first of the
    ``images_left_out``.
    """

    source: str
    """what the boxes are known by: the file's name, with a number where another file of that name brought others before"""
    classes: tuple[str, ...]
    images: int
    added: int
    changed: int
    unchanged: int
    removed: int
    accepted: int
    withheld: int
    reviewed_tiles: int
    crowd: int
    difficult: int
    left_out: int
    unusable: tuple[dict[str, str], ...]
    images_left_out: int
    unknown_images: tuple[str, ...]


def import_labels(
    workspace: Workspace, labels: LabelFile, config: LabelConfig, *, origin: str = "", progress: Progress = silent
) -> LabelReport:
    """Write the boxes of ``labels`` as annotations, in one transaction.

    The file is complete for the images that it names: each of their tiles counts as reviewed (with ``withhold`` those on dev and test
    ground alone). The same file once more changes nothing; an edited one replaces what it said before of the images it names. One is an
    edited file where it has the name and ``origin`` of an earlier one, or its name and a box at the same place; any other removes nothing.
    A box that another file brought in already is not doubled.

    Args:
        workspace: with scenes ingested.
        labels: read by a connector; its labels are indices into its own label set.
        config: see its fields.
        origin: where the file lies and how it was read, in any words that stay the same; empty where nobody can say.
        progress: called once an image.

    Raises:
        LabelSetMismatch: a box of a class that the workspace does not have.
        BadInput: an image that is not in the workspace, is not the only one of its name, or has another size; or no box can be used.
    """
    source = fitted_source(labels.source or "labels")
    with workspace.worker_lock("labels import"), workspace.session() as session:
        classes = _settle_classes(session, labels, config, source)
        label_by_name = {name: label for label, name in enumerate(classes.names)}
        label_of = [label_by_name.get(name, -1) for name in _mapped(labels.label_set.names, config)]
        matched, unknown = _match(session, labels, config, source)
        states = load_states(session, sorted(matched))
        wanted, outside = _wanted(states, matched, label_of, source)
        lost = [*labels.unusable, *outside]
        _require_some_usable(sum(map(len, wanted.values())), lost, source)
        source, changes = settle_source(session, states, wanted, labels.source or "labels", origin), Changes()
        for scene_id in track(sorted(matched), len(matched), "labels", progress):
            write_boxes(
                session,
                states[scene_id],
                wanted[scene_id],
                source=source,
                withhold=config.withhold,
                complete=config.complete,
                changes=changes,
            )
        if changes.added or changes.changed or changes.removed or changes.reviewed_tiles:
            ledger.record(
                session, "labels", source=source, origin=origin, images=len(labels.images), withhold=config.withhold, **vars(changes)
            )
        on_file = [row for state in states.values() for row in state.annotations if row.source == source]
        return LabelReport(
            source=source,
            classes=classes.names,
            images=len(labels.images) - len(unknown),
            accepted=sum(row.state == "accepted" for row in on_file),
            withheld=sum(row.state == "withheld" for row in on_file),
            crowd=labels.crowd,
            difficult=labels.difficult,
            left_out=len(lost),
            unusable=tuple({"image": box.image, "box": box.box, "reason": box.reason} for box in lost[:MOST_NAMED]),
            images_left_out=len(unknown),
            unknown_images=tuple(unknown[:MOST_NAMED]),
            **vars(changes),
        )


def _mapped(names: Sequence[str], config: LabelConfig) -> list[str]:
    return [config.class_map.get(name, name) for name in names]


def _settle_classes(session: Session, labels: LabelFile, config: LabelConfig, source: str) -> LabelSet:
    names = labels.label_set.names
    for name in config.class_map:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            raise LabelSetMismatch(
                f"class_map renames {name!r}, which {source} does not have",
                expected=f"one of {list(names)}",
                remedy=f"Did you mean {nearest[0]!r}?" if nearest else "Leave it out",
            )
    if config.label_set is not None or session.get(LabelSetRow, 1) is None:
        classes = set_label_set(session, config.label_set or dict.fromkeys(_mapped(names, config)))
    else:
        row = session.get_one(LabelSetRow, 1)
        classes = LabelSet.of(row.names)
    used = sorted({label for image in labels.images for label in image.boxes_scene.labels.tolist()})
    for name in _mapped([names[label] for label in used], config):
        try:
            classes.index(name)
        except LabelSetMismatch as mismatch:
            raise LabelSetMismatch(
                f"{source}: {mismatch.found}",
                expected=mismatch.expected,
                remedy=f"{mismatch.remedy}, or map it to one of them (class_map)",
            ) from mismatch
    return classes


def _match(session: Session, labels: LabelFile, config: LabelConfig, source: str) -> tuple[dict[int, list[ImageLabels]], list[str]]:
    names = SceneNames.of(session)
    matched: dict[int, list[ImageLabels]] = {}
    unknown: list[str] = []
    for image in labels.images:
        found = names.find(image.image) if image.scene_id is None else [image.scene_id]
        if len(found) > 1:
            raise BadInput(
                f"{source}: the image {image.image!r} may be any of {len(found)} scenes",
                expected="a name that one scene has",
                remedy="Write the image's path as the archive has it into the label file",
            )
        if found:
            matched.setdefault(found[0], []).append(image)
        else:
            unknown.append(image.image)
    for scene_id, images in matched.items():
        if len(images) > names.names_of(scene_id):
            raise BadInput(
                f"{source}: the images {images[0].image!r} and {images[1].image!r} would be the same scene",
                expected="one image a scene",
                remedy="Ingest the one that is missing, or write the images' paths as the archive has them into the label file",
            )
    if unknown and (not config.allow_unknown_images or not matched):
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise BadInput(
            f"{source} names images that are not in this workspace: {', '.join(map(repr, unknown[:3]))}{more}",
            expected="images that were ingested",
            remedy="Ingest them first, or pass over them (allow_unknown_images)" if matched else "Ingest them first",
        )
    if not matched:
        raise BadInput(f"{source} names no image", expected="one at least", remedy="Export the labels again")
    return matched, unknown


def _require_same_size(scene: Scene, image: ImageLabels, source: str) -> None:
    if image.width and image.height and (image.width, image.height) != (scene.width, scene.height):
        raise BadInput(
            f"{source}: {image.image!r} has {image.width} x {image.height} pixels",
            expected=f"{scene.width} x {scene.height}, the size of the scene {scene.name!r}",
            remedy="Label the very file that was ingested, or mend the size in the label file",
        )


def _wanted(
    states: Mapping[int, SceneState], matched: Mapping[int, Sequence[ImageLabels]], label_of: Sequence[int], source: str
) -> tuple[dict[int, list[Key]], list[UnusableBox]]:
    """The distinct boxes of each scene, clipped to it, and those that lie outside."""
    wanted: dict[int, list[Key]] = {}
    outside: list[UnusableBox] = []
    for scene_id in sorted(matched):
        scene = states[scene_id].scene
        keys: dict[Key, None] = {}
        for image in matched[scene_id]:
            _require_same_size(scene, image, source)
            for xyxy, label in zip(image.boxes_scene.xyxy.tolist(), image.boxes_scene.labels.tolist(), strict=True):
                x1, y1, x2, y2 = max(xyxy[0], 0.0), max(xyxy[1], 0.0), min(xyxy[2], float(scene.width)), min(xyxy[3], float(scene.height))
                if x2 > x1 and y2 > y1:
                    keys[label_of[label], x1, y1, x2, y2] = None
                else:
                    reason = f"it lies outside the scene of {scene.width} x {scene.height} pixels"
                    outside.append(UnusableBox(image.image, str(xyxy), reason))
        wanted[scene_id] = list(keys)
    return wanted, outside


def _require_some_usable(taken: int, lost: Sequence[UnusableBox], source: str) -> None:
    """Refuse a file of which every box is unusable: its images would count as empty."""
    if lost and not taken:
        raise BadInput(
            f"none of the {len(lost)} boxes of {source} can be used; the first, {lost[0].box} of {lost[0].image!r}: {lost[0].reason}",
            expected="boxes inside the images that were ingested",
            remedy="Check that the file belongs to this imagery and is written in the format it is read as",
        )
