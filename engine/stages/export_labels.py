"""``labels export``: what is annotated, as images with boxes that a format can write; what is withheld never is."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.boxes import visible_share
from engine.catalog.annotations import MINIMUM_VISIBLE_SHARE, label_set, scene_boxes, tile_boxes
from engine.catalog.lookup import frame_of, names_of_twins
from engine.catalog.pixels import TilePixels
from engine.catalog.schema import Annotation, Review, Scene, Tile
from engine.catalog.splits import NO_SPLIT
from engine.catalog.tiles import TileRecord, chunks, scene_file, tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, NothingToDo
from engine.imagery.orientation import is_turned, set_upright
from engine.progress import Progress, silent, track
from engine.records import ImageLabels, LabelFile

__all__ = ["CollectedLabels", "LabelExportConfig", "WorkspacePictures", "collect_labels"]


class LabelExportConfig(StageConfig):
    """Which labels are written, and what lies beside them."""

    per: Literal["scene", "tile"] = "scene"
    """what an image of the export is: a whole scene, or a tile with what at least 40 % of shows in it"""
    reviewed: bool = False
    """only tiles that somebody looked at; of a scene only the boxes that show in one of them"""
    images: Literal["none", "link", "copy"] = "none"
    """pictures beside the labels: none, links to the scenes' files, or copies; a tile is always written anew, as PNG"""
    overwrite: bool = False
    """replace the file that is there, or the folder that an earlier export wrote"""


@dataclass(frozen=True)
class CollectedLabels:
    """Labels to be written; ``partly_reviewed`` counts the images of which nobody has looked at all: they may show more objects."""

    labels: LabelFile
    partly_reviewed: int


def collect_labels(workspace: Workspace, config: LabelExportConfig, *, progress: Progress = silent) -> CollectedLabels:
    """The accepted boxes, by scene or by tile; images on which nothing is reviewed or accepted are left out.

    Two scenes of one name are told apart by a folder before it, see :func:`engine.catalog.lookup.names_of_twins`, whether both are written
    or one. A tile is called by its scene and its window in it; where two tiles would have one name, ``scene-ID`` stands before it.

    Args:
        workspace: it is only read.
        config: see its fields.
        progress: called once a scene, or once every ten thousand tiles.

    Raises:
        BadInput: the workspace has no classes yet.
        NothingToDo: nothing is annotated.
    """
    with workspace.session(write=False) as session:
        classes = label_set(session)
        twins = names_of_twins(session)
        found = _of_tiles(session, config, progress) if config.per == "tile" else _of_scenes(session, config, progress)
    if not found:
        raise NothingToDo(
            "there are no reviewed tiles" if config.reviewed else "nothing is annotated yet",
            remedy="Bring labels in: tilehawk labels import FILE, or annotate tiles in the app",
        )
    labels = LabelFile(classes, _told_apart([image for image, _ in found], twins), source="accepted")
    return CollectedLabels(labels, sum(partly for _, partly in found))


def _of_scenes(session: Session, config: LabelExportConfig, progress: Progress) -> list[tuple[ImageLabels, bool]]:
    """Every scene with something to say, and whether parts of it are not reviewed."""
    reviewed = select(Tile.scene_id).join(Review, Review.tile_id == Tile.id)
    annotated = select(Annotation.scene_id).where(Annotation.state == "accepted")
    wanted = reviewed if config.reviewed else reviewed.union(annotated)
    scenes = list(session.scalars(select(Scene).where(Scene.id.in_(wanted)).order_by(Scene.id)))
    looked_at: dict[int, list[tuple[int, int, int, int]]] = {scene.id: [] for scene in scenes}
    for tile in tiles(session, reviewed=True):
        looked_at[tile.scene_id].append(tile.window.xyxy)
    not_wholly = {tile.scene_id for tile in tiles(session, reviewed=False)}
    found = []
    for scene in track(scenes, len(scenes), "labels", progress):
        boxes = scene_boxes(session, scene.id)
        if config.reviewed:
            boxes = boxes.take(_shown(boxes.xyxy, looked_at[scene.id]))
        georeference = frame_of(scene).georeference
        image = ImageLabels(scene.name, scene.width, scene.height, boxes, scene.id, georeference, scene.split)
        found.append((image, scene.id in not_wholly))
    return found


def _shown(xyxy: NDArray[np.float64], windows: list[tuple[int, int, int, int]]) -> NDArray[np.bool_]:
    """Which boxes show in one of the windows."""
    seen = np.zeros(len(xyxy), dtype=bool)
    for window in windows:
        seen |= visible_share(xyxy, window) >= MINIMUM_VISIBLE_SHARE
    return seen


def _of_tiles(session: Session, config: LabelExportConfig, progress: Progress) -> list[tuple[ImageLabels, bool]]:
    """Every tile with something to say, and whether it is not reviewed."""
    looked_at = {tile.id for tile in tiles(session, reviewed=True)}
    known = [tile for tile in tiles(session) if not config.reviewed or tile.id in looked_at]
    found = []
    for chunk in chunks(known):
        boxes = tile_boxes(session, chunk)
        for tile in chunk:
            if tile.id in looked_at or len(boxes[tile.id]):
                size = tile.window.width, tile.window.height
                image = ImageLabels(_tile_name(tile), *size, boxes[tile.id], tile.scene_id, split=tile.split, window=tile.window)
                found.append((image, tile.id not in looked_at))
        progress(len(found), len(known), "labels")
    return found


def _tile_name(tile: TileRecord) -> str:
    path = PurePosixPath(tile.scene_name)
    return path.with_name(f"{path.stem}_{'_'.join(map(str, tile.window.xyxy))}.png").as_posix()


def _told_apart(images: list[ImageLabels], twins: Mapping[int, str]) -> tuple[ImageLabels, ...]:
    def named(image: ImageLabels) -> ImageLabels:
        twin = twins.get(image.scene_id or 0)
        return image if twin is None else replace(image, image=f"{twin.partition('/')[0]}/{image.image}")

    images = [named(image) for image in images]
    count = Counter(image.image for image in images)
    return tuple(replace(image, image=f"scene-{image.scene_id}/{image.image}") if count[image.image] > 1 else image for image in images)


class WorkspacePictures:
    """The pictures of scenes and tiles, for writers that put them beside the labels; a context manager that keeps a few scenes open.

    A copy notes no turn in its EXIF, for boxes lie in the pixels as they are stored; ``turned`` names the scenes that are linked and do.

    Args:
        workspace: of the labels.
        link: link to the files of scenes rather than copy them.
    """

    def __init__(self, workspace: Workspace, *, link: bool) -> None:
        self._workspace, self._link = workspace, link
        self.turned: list[str] = []
        self._pixels = TilePixels(workspace)

    def __enter__(self) -> Self:
        """Start with no scene open."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the scenes."""
        self._pixels.__exit__(kind, error, trace)

    def place(self, image: ImageLabels, stem: Path) -> Path:
        """Put the picture of ``image`` at ``stem`` plus its suffix; returns that path.

        Raises:
            BadInput: the scene's file is gone, or cannot be read.
        """
        assert image.scene_id is not None
        stem.parent.mkdir(parents=True, exist_ok=True)
        if image.window is not None:
            return self._write_tile(image, stem.with_name(f"{stem.name}.png"))
        with self._workspace.session(write=False) as session:
            file = scene_file(self._workspace, session.get_one(Scene, image.scene_id)).resolve()
        target = stem.with_name(stem.name + file.suffix)
        try:
            if self._link:
                target.symlink_to(file)
                self.turned += [image.image] * is_turned(file)
            else:
                shutil.copyfile(file, target)
                set_upright(target)
        except OSError as failed:
            raise BadInput(f"the picture {target} cannot be written: {failed.strerror}", remedy="Check the disk") from failed
        return target

    def _write_tile(self, image: ImageLabels, target: Path) -> Path:
        from PIL import Image

        assert image.scene_id is not None
        assert image.window is not None
        tile = TileRecord(0, image.scene_id, image.image, image.window, image.split or NO_SPLIT, "")
        Image.fromarray(self._pixels.read(tile)).save(target)
        return target
