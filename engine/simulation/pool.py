"""A pool of tiles whose objects are all known, on which budgets are replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.boxes import Boxes, visible_share
from engine.errors import BadInput, NothingToDo
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet
from engine.selection.candidates import Candidates
from engine.selection.detections import Detections, KnownObjects

__all__ = ["LabelledPool", "object_numbers"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """N tiles with all their objects.

    ``tile_ids`` (N,) strictly rising; ``scene_ids`` (N,); ``windows_scene`` (N, 4) xyxy scene pixels; ``true``: the boxes of each tile, in
    its pixels; ``label_set``: what their labels stand for; ``objects``: of each box the number of its object, the same in every tile that
    shows it, None where no two tiles show the same one.

    Raises:
        BadInput: shapes that do not agree.
        NothingToDo: no tile, or none that holds an object.
    """

    tile_ids: Integers
    scene_ids: Integers
    windows_scene: Floats
    true: Sequence[Boxes]
    label_set: LabelSet
    objects: Sequence[Integers] | None = None

    def __post_init__(self) -> None:
        found = (len(self.tile_ids), len(self.scene_ids), len(self.windows_scene), len(self.true))
        if len(set(found)) > 1 or not (np.diff(self.tile_ids) > 0).all():
            raise BadInput(f"a pool of {found} tile ids, scenes, windows and boxes", expected="one a tile, the ids strictly rising")
        if self.objects is not None and [len(each) for each in self.objects] != [len(known) for known in self.true]:
            raise BadInput("object numbers that do not go with the boxes", expected="one a box of each tile")
        if not self.boxes:
            raise NothingToDo(
                f"{len(self.true)} labelled tiles without an object", expected="known objects", remedy="Label some tiles first"
            )

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tile_ids)

    @property
    def boxes(self) -> int:
        """Number of objects on all tiles, each counted once."""
        return len(self.objects_on(range(len(self))))

    def objects_on(self, rows: Iterable[int]) -> set[int]:
        """Numbers of the objects on the tiles at ``rows``."""
        return {number for row in rows for number in self._numbers[row].tolist()}

    def boxes_of(self, row: int, objects: AbstractSet[int]) -> Boxes:
        """The boxes of the tile at ``row`` that show one of ``objects``."""
        return self.true[row].take(np.asarray([number in objects for number in self._numbers[row].tolist()], dtype=bool))

    @cached_property
    def _numbers(self) -> Sequence[Integers]:
        if self.objects is not None:
            return self.objects
        ends = np.cumsum([len(known) for known in self.true])
        return [np.arange(end - len(known), end) for known, end in zip(self.true, ends, strict=True)]

    def candidates(self, labelled: Integers, predictions: Predictions | None, passed_over: Sequence[int] = ()) -> Candidates:
        """What a ranking may know once the tiles at the rows ``labelled`` are: never the objects of another.

        Args:
            labelled: (L,) rows.
            predictions: of the newest model, on every tile of the pool; None before the first.
            passed_over: rows that cannot be chosen, and of which nothing is known.
        """
        reviewed = np.zeros(len(self), dtype=bool)
        reviewed[labelled] = True
        splits = np.full(len(self), "train")
        splits[list(passed_over)] = "none"
        seen: dict[str, Any] = {} if predictions is None else _seen(predictions)
        return Candidates(
            tile_ids=self.tile_ids,
            scene_ids=self.scene_ids,
            windows_scene=self.windows_scene,
            splits=splits,
            reviewed=reviewed,
            known=KnownObjects.of(labelled, [self.true[row] for row in labelled]),
            class_names=self.label_set.names,
            **seen,
        )


def object_numbers(scene_ids: Integers, windows_scene: Floats, boxes_of_scene: Mapping[int, Boxes], minimum_share: float) -> list[Integers]:
    """Of each tile the numbers of the objects of which at least ``minimum_share`` lies in it, in the order of its scene's boxes.

    Args:
        scene_ids: (N,) of the tiles.
        windows_scene: (N, 4) xyxy scene pixels.
        boxes_of_scene: all boxes of each scene, in its pixels.
        minimum_share: in (0, 1], that of :meth:`engine.boxes.Boxes.visible_in` for the boxes of the tiles.
    """
    scenes = sorted(boxes_of_scene)
    first = dict(zip(scenes, np.cumsum([0, *(len(boxes_of_scene[scene]) for scene in scenes)]).tolist(), strict=False))
    return [
        first[scene] + np.flatnonzero(visible_share(boxes_of_scene[scene].xyxy, (x1, y1, x2, y2)) >= minimum_share)
        for scene, (x1, y1, x2, y2) in zip(scene_ids.tolist(), windows_scene.tolist(), strict=True)
    ]


def _seen(predictions: Predictions) -> dict[str, Any]:
    return {
        "embeddings": predictions.embeddings,
        "query_entropy": predictions.query_entropy,
        "saturated": predictions.saturated,
        "detections": Detections(
            predictions.tile_index,
            predictions.boxes_tile.astype(np.float64),
            predictions.class_scores.astype(np.float64),
            predictions.drift.astype(np.float64),
            predictions.object_features,
        ),
    }
