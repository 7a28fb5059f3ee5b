"""Labels that the detector confidently disagrees with: what a person should look at again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.boxes import box_iou
from engine.config import StageConfig
from engine.selection.detections import Detections, KnownObjects

__all__ = ["Disagreement", "DisagreementConfig", "Kind", "disagreements", "most_suspicious"]

Floats = NDArray[np.float64]
Kind = Literal["missing", "class", "place", "unseen"]


class DisagreementConfig(StageConfig):
    """From when on the detector is believed rather than the label."""

    confident: float = Field(default=0.6, gt=0, le=1)
    """A detection from this score up that no label matches is a disagreement."""
    same_iou: float = Field(default=0.5, gt=0, le=1)
    """Boxes that overlap at least this much are of the same object."""
    near_iou: float = Field(default=0.1, gt=0, le=1)
    """Boxes that overlap at least this much may be; between the two the label is in the wrong place."""
    unseen_below: float = Field(default=0.05, ge=0, le=1)
    """A labelled object near which no detection reaches this score is one that the detector does not see, though it learned from it."""


@dataclass(frozen=True)
class Disagreement:
    """One label, or one that is not there, that the detector would have otherwise.

    ``kind``: ``missing``: a detection without a label; ``class``: another class there; ``place``: the same object elsewhere; ``unseen``:
    a label without a detection. ``tile``: row; ``box`` xyxy tile pixels; ``label`` as drawn and ``detected`` as detected, None where there
    is none; ``suspicion`` in [0, 1].
    """

    kind: Kind
    tile: int
    box: tuple[float, float, float, float]
    label: int | None
    detected: int | None
    suspicion: float


def disagreements(objects: Detections, known: KnownObjects, tiles: NDArray[np.int64], config: DisagreementConfig) -> list[Disagreement]:
    """Every disagreement on the labelled ``tiles`` (rows), the most suspicious first.

    Args:
        objects: detections that stand for an object each, ordered by tile.
        known: what people drew on those tiles.
        tiles: (L,) rows of tiles that are labelled in full.
        config: from when on a detection is believed.
    """
    found: list[Disagreement] = []
    known = known.take(np.argsort(known.tile_index, kind="stable"))
    for tile in np.unique(tiles).tolist():
        seen, drawn = (np.arange(*np.searchsorted(each.tile_index, [tile, tile + 1])) for each in (objects, known))
        found += _on_tile(tile, objects.take(seen), known.take(drawn), config)
    return sorted(found, key=lambda each: (-each.suspicion, each.tile, each.kind, each.box))


def most_suspicious(found: Sequence[Disagreement], seconds: Floats, budget: float) -> list[int]:
    """Rows of tiles to look at again, those with the most suspicion a second first, as long as ``budget`` pays for them.

    Args:
        found: disagreements.
        seconds: (N,) that looking at a tile again takes, by row.
        budget: in seconds.
    """
    weight: dict[int, float] = {}
    for each in found:
        weight[each.tile] = weight.get(each.tile, 0.0) + each.suspicion
    chosen, spent = [], 0.0
    for tile in sorted(weight, key=lambda row: (-weight[row] / seconds[row], row)):
        if spent + seconds[tile] <= budget:
            chosen.append(tile)
            spent += float(seconds[tile])
    return chosen


def _on_tile(tile: int, objects: Detections, known: KnownObjects, config: DisagreementConfig) -> list[Disagreement]:
    overlap = box_iou(known.xyxy, objects.xyxy)
    scores, labels = objects.scores, (objects.class_scores.argmax(axis=1) if len(objects) else np.zeros(0, dtype=np.int64))
    found = []
    for row, box in enumerate(objects.xyxy):
        if scores[row] < config.confident:
            continue
        nearest = int(overlap[:, row].argmax()) if len(known) else -1
        best = float(overlap[nearest, row]) if len(known) else 0.0
        place = (tile, _corners(box))
        if best < config.near_iou:
            found.append(Disagreement("missing", *place, None, int(labels[row]), float(scores[row])))
        elif best < config.same_iou and known.labels[nearest] == labels[row]:
            found.append(Disagreement("place", *place, int(known.labels[nearest]), int(labels[row]), float(scores[row]) * (1 - best)))
        elif best >= config.same_iou and known.labels[nearest] != labels[row] and not _answered(objects, overlap, known, nearest, config):
            doubt = float(scores[row] - objects.class_scores[row, known.labels[nearest]])
            found.append(Disagreement("class", *place, int(known.labels[nearest]), int(labels[row]), max(doubt, 0.0)))
    for row, box in enumerate(known.xyxy):
        near = overlap[row] >= config.near_iou
        if not (scores[near] >= config.unseen_below).any():
            found.append(
                Disagreement("unseen", tile, _corners(box), int(known.labels[row]), None, 1 - float(scores[near].max(initial=0.0)))
            )
    return found


def _answered(objects: Detections, overlap: Floats, known: KnownObjects, row: int, config: DisagreementConfig) -> bool:
    """Whether some confident detection there agrees with the label."""
    there = overlap[row] >= config.same_iou
    return bool((objects.class_scores[there, known.labels[row]] >= config.confident).any())


def _corners(box: Floats) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(float(value), 2) for value in box)
    return x1, y1, x2, y2
