"""A pool of tiles whose objects are all known, on which budgets are replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.boxes import Boxes
from engine.errors import BadInput, NothingToDo
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet
from engine.selection.candidates import Candidates
from engine.selection.detections import Detections, KnownObjects

__all__ = ["LabelledPool"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """N tiles with all their objects.

    ``tile_ids`` (N,) strictly rising; ``scene_ids`` (N,); ``windows_scene`` (N, 4) xyxy scene pixels; ``true``: the boxes of each tile, in
    its pixels; ``label_set``: what their labels stand for.

    Raises:
        BadInput: shapes that do not agree.
        NothingToDo: no tile, or none that holds an object.
    """

    tile_ids: Integers
    scene_ids: Integers
    windows_scene: Floats
    true: Sequence[Boxes]
    label_set: LabelSet

    def __post_init__(self) -> None:
        found = (len(self.tile_ids), len(self.scene_ids), len(self.windows_scene), len(self.true))
        if len(set(found)) > 1 or not (np.diff(self.tile_ids) > 0).all():
            raise BadInput(f"a pool of {found} tile ids, scenes, windows and boxes", expected="one a tile, the ids strictly rising")
        if not self.boxes:
            raise NothingToDo(
                f"{len(self.true)} labelled tiles without an object", expected="known objects", remedy="Label some tiles first"
            )

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tile_ids)

    @property
    def boxes(self) -> int:
        """Number of objects on all tiles."""
        return sum(len(known) for known in self.true)

    def candidates(self, labelled: Integers, predictions: Predictions | None) -> Candidates:
        """What a ranking may know once the tiles at the rows ``labelled`` are: never the objects of another.

        Args:
            labelled: (L,) rows.
            predictions: of the newest model, on every tile of the pool; None before the first.
        """
        reviewed = np.zeros(len(self), dtype=bool)
        reviewed[labelled] = True
        seen: dict[str, Any] = {} if predictions is None else _seen(predictions)
        return Candidates(
            tile_ids=self.tile_ids,
            scene_ids=self.scene_ids,
            windows_scene=self.windows_scene,
            splits=np.full(len(self), "train"),
            reviewed=reviewed,
            known=KnownObjects.of(labelled, [self.true[row] for row in labelled]),
            class_names=self.label_set.names,
            **seen,
        )


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
