"""``labels import``: boxes of a label file become annotations of the scenes that it names, all of them or none."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.boxes import visible_share
from engine.catalog import ledger
from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE, mark_reviewed, set_label_set
from engine.catalog.lookup import SceneNames
from engine.catalog.schema import Annotation, LabelSetRow, Review, Scene, Tile
from engine.catalog.splits import NO_SPLIT
from engine.catalog.tiles import chunks, window_of
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, LabelSetMismatch
from engine.label_set import LabelSet
from engine.progress import Progress, silent, track
from engine.records import ImageLabels, LabelFile

__all__ = ["LabelConfig", "LabelReport", "import_labels"]

Key = tuple[int, float, float, float, float]


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


@dataclass(frozen=True)
class LabelReport:
    """What an import did; ``unusable`` lists boxes left out by image and reason, ``crowd`` counts those that stood for many objects."""

    source: str
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
    unusable: tuple[dict[str, str], ...]
    unknown_images: tuple[str, ...]


@dataclass
class _Counts:
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    reviewed_tiles: int = 0


@dataclass(frozen=True)
class _SceneState:
    """What the catalog holds of one scene: its row, tiles that have a split, those already reviewed, its annotations."""

    scene: Scene
    tiles: list[Tile]
    reviewed: set[int]
    annotations: list[Annotation]


def import_labels(workspace: Workspace, labels: LabelFile, config: LabelConfig, *, progress: Progress = silent) -> LabelReport:
    """Write the boxes of ``labels`` as annotations, in one transaction.

    The file is complete for the images that it names: each of their tiles counts as reviewed (with ``withhold`` those on dev and test
    ground alone). The same file once more changes nothing; an edited one replaces what it said before of the images it names. A box
    that another file brought in already is not doubled.

    Args:
        workspace: with scenes ingested.
        labels: read by a connector; its labels are indices into its own label set.
        config: see its fields.
        progress: called once an image.

    Raises:
        LabelSetMismatch: a box of a class that the workspace does not have.
        BadInput: an image that is not in the workspace, is not the only one of its name, or has another size.
    """
    source = (labels.source or "labels")[:64]
    with workspace.worker_lock("labels import"), workspace.session() as session:
        classes = _settle_classes(session, labels, config, source)
        label_of = [classes.names.index(name) if name in classes.names else -1 for name in _mapped(labels.label_set.names, config)]
        matched, unknown = _match(session, labels, config, source)
        states = _scene_states(session, sorted(matched))
        counts, lost = _Counts(), []
        for scene_id in track(sorted(matched), len(matched), "labels", progress):
            state = states[scene_id]
            for image in matched[scene_id]:
                _require_same_size(state.scene, image, source)
            wanted, outside = _wanted(state.scene, matched[scene_id], label_of)
            lost += outside
            _write_scene(session, state, wanted, source=source, withhold=config.withhold, counts=counts)
        if counts.added or counts.changed or counts.removed or counts.reviewed_tiles:
            ledger.record(session, "labels", source=source, images=len(labels.images), withhold=config.withhold, **vars(counts))
        on_file = [row for state in states.values() for row in state.annotations if row.source == source]
        return LabelReport(
            source=source,
            classes=classes.names,
            images=len(labels.images) - len(unknown),
            accepted=sum(row.state == "accepted" for row in on_file),
            withheld=sum(row.state == "withheld" for row in on_file),
            crowd=labels.crowd,
            unusable=tuple({"image": box.image, "box": box.box, "reason": box.reason} for box in labels.unusable) + tuple(lost),
            unknown_images=tuple(unknown),
            **vars(counts),
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
        found = names.find(image.image)
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


def _scene_states(session: Session, scene_ids: Sequence[int]) -> dict[int, _SceneState]:
    states: dict[int, _SceneState] = {}
    for chunk in chunks(scene_ids):
        for scene in session.scalars(select(Scene).where(Scene.id.in_(chunk))):
            states[scene.id] = _SceneState(scene, [], set(), [])
        for tile in session.scalars(select(Tile).where(Tile.scene_id.in_(chunk), Tile.split != NO_SPLIT).order_by(Tile.id)):
            states[tile.scene_id].tiles.append(tile)
        reviewed = select(Tile.scene_id, Tile.id).join(Review, Review.tile_id == Tile.id).where(Tile.scene_id.in_(chunk))
        for scene_id, tile_id in session.execute(reviewed):
            states[scene_id].reviewed.add(tile_id)
        for row in session.scalars(select(Annotation).where(Annotation.scene_id.in_(chunk)).order_by(Annotation.id)):
            states[row.scene_id].annotations.append(row)
    return states


def _require_same_size(scene: Scene, image: ImageLabels, source: str) -> None:
    if image.width and image.height and (image.width, image.height) != (scene.width, scene.height):
        raise BadInput(
            f"{source}: {image.image!r} has {image.width} x {image.height} pixels",
            expected=f"{scene.width} x {scene.height}, the size of the scene {scene.name!r}",
            remedy="Label the very file that was ingested, or mend the size in the label file",
        )


def _wanted(scene: Scene, images: Sequence[ImageLabels], label_of: Sequence[int]) -> tuple[dict[Key, None], list[dict[str, str]]]:
    """The distinct boxes of a scene, clipped to it, and those that lie outside."""
    keys: dict[Key, None] = {}
    outside: list[dict[str, str]] = []
    for image in images:
        for xyxy, label in zip(image.boxes_scene.xyxy.tolist(), image.boxes_scene.labels.tolist(), strict=True):
            x1, y1, x2, y2 = max(xyxy[0], 0.0), max(xyxy[1], 0.0), min(xyxy[2], float(scene.width)), min(xyxy[3], float(scene.height))
            if x2 > x1 and y2 > y1:
                keys[label_of[label], x1, y1, x2, y2] = None
            else:
                reason = f"it lies outside the scene of {scene.width} x {scene.height} pixels"
                outside.append({"image": image.image, "box": str(xyxy), "reason": reason})
    return keys, outside


def _write_scene(session: Session, state: _SceneState, wanted: dict[Key, None], *, source: str, withhold: bool, counts: _Counts) -> None:
    shown = [tile for tile in state.tiles if not withhold or tile.split != "train"]
    open_tiles = shown + [tile for tile in state.tiles if tile.id in state.reviewed]
    states = _states(wanted, open_tiles) if withhold else ["accepted"] * len(wanted)
    if not withhold:
        _require_nothing_withheld(state, source)
    rows = {(row.label, row.x1, row.y1, row.x2, row.y2): row for row in sorted(state.annotations, key=lambda row: row.source == source)}
    for key, given in zip(wanted, states, strict=True):
        row = rows.get(key)
        if row is None:
            label, x1, y1, x2, y2 = key
            row = Annotation(scene_id=state.scene.id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source=source, state=given)
            session.add(row)
            state.annotations.append(row)
            counts.added += 1
        elif (row.state == "withheld" and given == "accepted") or _removed_by_import(row):
            _change(row, given, annotator=None)
            counts.changed += 1
        else:
            counts.unchanged += 1
    for key, row in rows.items():
        if row.source == source and key not in wanted and row.state != "deleted":
            _change(row, "deleted", annotator=source)
            counts.removed += 1
    counts.reviewed_tiles += mark_reviewed(session, [tile.id for tile in shown], by=source)


def _states(wanted: dict[Key, None], open_tiles: Sequence[Tile]) -> list[str]:
    """``accepted`` for boxes that show in one of ``open_tiles``, ``withheld`` for the rest."""
    xyxy = np.asarray([key[1:] for key in wanted], dtype=np.float64).reshape(-1, 4)
    seen = np.zeros(len(xyxy), dtype=bool)
    for tile in open_tiles:
        seen |= visible_share(xyxy, window_of(tile).xyxy) >= MINIMUM_VISIBLE_SHARE
    return ["accepted" if shows else "withheld" for shows in seen]


def _require_nothing_withheld(state: _SceneState, source: str) -> None:
    for row in state.annotations:
        if row.state == "withheld" and row.source != source:
            raise BadInput(
                f"the scene {state.scene.name!r} has labels of {row.source} withheld, so {source} cannot stand for all of it",
                expected="an import that withholds too",
                remedy="Import it with --withhold, or the withheld file without",
            )


def _removed_by_import(row: Annotation) -> bool:
    return row.state == "deleted" and row.annotator == row.source


def _change(row: Annotation, state: str, *, annotator: str | None) -> None:
    row.state, row.annotator = state, annotator
    row.version += 1
