"""``suggest``: what the workspace's models say of single tiles, at once, for an annotator who waits; no worker has a part in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field
from sqlalchemy.orm import Session

from engine.annotation_server import ACCEPTED, Suggestion
from engine.boxes import Boxes, box_area, box_iou
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.look_alikes import LookAlikes, grids_directory
from engine.catalog.models import asked_model, current_detector, model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.predictions import prediction_sets, predictions_directory
from engine.catalog.schema import ModelRow
from engine.catalog.tile_grids import HeldGrids, stored_centre
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput
from engine.inference.predict import predict_tiles
from engine.inference.predictions import Predictions, stored_detections
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.store import load_detector
from engine.progress import silent
from engine.simulation.oracle import shown_boxes

__all__ = ["SuggestConfig", "TileSuggestions"]

SAME_OBJECT_SHARE = 0.4
"""Of two boxes that have more than this of the smaller in common, the less alike is the same object, or a part of it."""
MOST_DRAWN = 4


class SuggestConfig(StageConfig):
    """What of the models' answers an annotator is shown."""

    shown_score: float = Field(default=0.3, ge=0, le=1)
    """Boxes of the current detector from this score up."""
    asked_score: float = Field(default=0.3, ge=0, le=1)
    """Look-alikes from this score up, where a model answers that was taught to be asked by a query patch."""
    likeness: float = Field(default=0.55, ge=0, le=1)
    """Look-alikes from this likeness up, where there is no such model and frozen features are compared. The default has the best harmonic
    mean of precision and recall on the training part of NWPU VHR-10 (docs/ml-backend.md)."""
    most: int = Field(default=100, ge=1, le=1000)
    """Look-alikes on a tile, at most."""
    candidates: int = Field(default=96, ge=1)
    """Windows that are looked at closely where frozen features are compared."""
    refined: int = Field(default=16, ge=0)
    """Of the best of them, how many are moved about for a better fit."""
    patch_size: int = Field(default=64, ge=32)
    """Side to which a box is resized before the backbone describes it, in pixels; as in pre-training."""
    iou_threshold: float = Field(default=0.5, gt=0, le=1)
    """Of two boxes of the detector of one class that overlap more, the weaker is dropped."""
    batch_size: int = Field(default=4, ge=1)
    """Tiles a forward pass."""


class _Loaded(NamedTuple):
    """A model that is kept: which, and the moment at which its folder was written."""

    name: str
    stamp: int
    model: Detector
    centre: NDArray[np.float32] | None
    """of the archive's features, where some are kept"""


class TileSuggestions:
    """Answers for single tiles, for one thread at a time; two models at most are kept, each until a newer one is there.

    Args:
        workspace: whose tiles and models.
        config: what is shown.
    """

    def __init__(self, workspace: Workspace, config: SuggestConfig | None = None) -> None:
        self._workspace, self._config = workspace, config or SuggestConfig()
        self._kept: dict[str, _Loaded] = {}

    def on_tiles(self, tile_ids: Sequence[int]) -> dict[int, Suggestion]:
        """By tile id, what the current detector finds, with the boxes that were accepted earlier; unknown tiles are left out.

        Stored predictions are read where there are some; the other tiles are looked at now.

        Raises:
            BadInput: a picture cannot be read, or the workspace has no classes.
            CheckpointRefused: the detector is damaged.
        """
        with self._workspace.session(write=False) as session:
            classes, row = label_set(session), current_detector(session)
            wanted = tiles(session, ids=tile_ids)
            accepted = tile_boxes(session, wanted)
            stored = {} if row is None else self._stored(session, row, [tile.id for tile in wanted])
        unseen = [tile for tile in wanted if tile.id not in stored]
        if row is not None and unseen:
            stored |= self._computed(row, classes, unseen)
        name = row.name if row is not None else ACCEPTED
        return {tile.id: self._suggestion(stored.get(tile.id), accepted[tile.id], name) for tile in wanted}

    def look_alikes(self, tile_id: int, drawn: Boxes) -> Suggestion | None:
        """What on the tile looks like the boxes that somebody drew there (the last few of them), without those; None for an unknown tile.

        Args:
            tile_id: the tile.
            drawn: in tile pixels, the newest last; a look-alike gets the class of the box that it is most like.

        Raises:
            BadInput: the picture cannot be read, or there is no model at all.
            CheckpointRefused: the model is damaged.
        """
        with self._workspace.session(write=False) as session:
            known = tiles(session, ids=[tile_id])
            row = asked_model(session)
        if not known or not len(drawn):
            return None
        kept = self._load("asked", row)
        with TilePixels(self._workspace) as pixels:
            grids = HeldGrids(kept.centre)
            finder = LookAlikes(self._workspace, kept.model, pixels, known, patch_size=self._config.patch_size, grids=grids)
            finder.describe()
            taught = kept.model.config.one_shot
            found = [self._like(finder, known[0], drawn, index, taught=taught) for index in range(len(drawn))[-MOST_DRAWN:]]
        boxes = _distinct(found, drawn, self._config.most)
        assert boxes.scores is not None
        return Suggestion(boxes, row.name, float(boxes.scores.mean()) if len(boxes) else None)

    def _like(self, finder: LookAlikes, tile: TileRecord, drawn: Boxes, index: int, *, taught: bool) -> Boxes:
        """What looks like the box at ``index``; ``taught``: the model's own scores decide."""
        config = self._config
        x1, y1, x2, y2 = drawn.xyxy[index].tolist()
        query = finder.query(tile, (x1, y1, x2, y2))
        if taught:
            found = finder.proposals(query, [0], most=config.most)
            corners, scores, least = found.boxes.double().numpy(), found.likeness.double().numpy(), config.asked_score
        else:
            hits = finder.find(query, hits=config.most, candidates=config.candidates, refined=config.refined)
            corners = np.asarray([hit.box_tile for hit in hits], dtype=np.float64).reshape(-1, 4)
            scores, least = np.asarray([hit.score for hit in hits], dtype=np.float64), config.likeness
        strong = scores >= least
        return Boxes(corners[strong], np.full(int(strong.sum()), drawn.labels[index]), scores[strong].clip(0, 1))

    def _stored(self, session: Session, row: ModelRow, tile_ids: Sequence[int]) -> dict[int, Boxes]:
        """Stored detections of the model, from its newest predictions that know a tile; damaged ones count as none."""
        found: dict[int, Boxes] = {}
        for each in reversed(prediction_sets(session, model_id=row.id)):
            if missing := [tile_id for tile_id in tile_ids if tile_id not in found]:
                try:
                    found |= stored_detections(predictions_directory(self._workspace, each.name), missing, self._config.shown_score)
                except (OSError, ValueError, BadInput, pa.ArrowException):
                    continue
        return found

    def _computed(self, row: ModelRow, classes: LabelSet, unseen: Sequence[TileRecord]) -> dict[int, Boxes]:
        model = self._load("detector", row, classes).model
        with TilePixels(self._workspace) as pixels:
            source = WorkspaceTiles(pixels, unseen, {}, model.config.image_size, cache_bytes=0)
            found: Predictions = predict_tiles(
                model,
                ((tile.id, source.image(index)) for index, tile in enumerate(unseen)),
                len(unseen),
                batch_size=self._config.batch_size,
                score_threshold=self._config.shown_score,
                iou_threshold=self._config.iou_threshold,
                extents=[(tile.window.width, tile.window.height) for tile in unseen],
                progress=silent,
            )
        return {tile.id: found.of_tile(tile.id) for tile in unseen}

    def _suggestion(self, detected: Boxes | None, accepted: Boxes, model: str) -> Suggestion:
        shown = shown_boxes(Boxes.empty(scored=True) if detected is None else detected, accepted, self._config.shown_score)
        assert shown.scores is not None
        detections = shown.scores[len(accepted) :]
        return Suggestion(shown, model, float(detections.mean()) if len(detections) else None)

    def _load(self, part: str, row: ModelRow, classes: LabelSet | None = None) -> _Loaded:
        directory = model_directory(self._workspace, row.name)
        manifest = directory / "manifest.json"
        stamp = manifest.stat().st_mtime_ns if manifest.exists() else 0
        kept = self._kept.get(part)
        if kept is None or (kept.name, kept.stamp) != (row.name, stamp):
            self._kept.pop(part, None)
            model, _ = load_detector(directory, label_set=classes)
            model = model.to("cuda" if torch.cuda.is_available() else "cpu", memory_format=torch.channels_last)  # type: ignore[call-overload]
            centre = stored_centre(grids_directory(self._workspace, model)) if part == "asked" else None
            kept = self._kept[part] = _Loaded(row.name, stamp, model, centre)
        return kept


def _distinct(parts: Sequence[Boxes], drawn: Boxes, most: int) -> Boxes:
    """The best of all, no object twice, and none that is drawn already, be it in part."""
    scores = np.concatenate([part.scores for part in parts if part.scores is not None])
    found = Boxes(np.concatenate([part.xyxy for part in parts]), np.concatenate([part.labels for part in parts]), scores)
    found = found.take(np.argsort(-scores, kind="stable"))
    found = found.take(_shared(found.xyxy, drawn.xyxy).max(axis=1, initial=0.0) < SAME_OBJECT_SHARE)
    shared = _shared(found.xyxy, found.xyxy)
    kept: list[int] = []
    for index in range(len(found)):
        if shared[index, kept].max(initial=0.0) < SAME_OBJECT_SHARE:
            kept.append(index)
    return found.take(np.asarray(kept[:most], dtype=np.int64))


def _shared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """What two boxes have in common, as a share of the smaller (N, M): a part of an object shares all of itself with it."""
    overlap = box_iou(a, b)
    area_a, area_b = box_area(a)[:, None], box_area(b)[None]
    common: NDArray[np.float64] = overlap / (1 + overlap) * (area_a + area_b) / np.minimum(area_a, area_b)
    return common
