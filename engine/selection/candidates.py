"""What a ranking may know: tiles, what was predicted on them, which of them are labelled. Never a withheld box."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.selection.detections import Detections, KnownObjects

__all__ = ["Candidates", "overlapping"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
COLUMNS = (
    "tile_ids",
    "scene_ids",
    "windows_scene",
    "splits",
    "reviewed",
    "embeddings",
    "embedded",
    "query_entropy",
    "saturated",
    "waiting",
)
"""What is known of each tile, one row a tile."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """N tiles of which some can be chosen, in any order.

    ``tile_ids`` (N,) distinct; ``scene_ids`` (N,); ``windows_scene`` (N, 4) xyxy scene pixels; ``splits`` (N,) names; ``reviewed`` (N,)
    whether a person has annotated the tile in full; ``waiting`` (N,) whether it was chosen before and waits for that, None for no tile.
    Only a tile of the split ``train`` that neither is reviewed nor waits can be chosen.
    ``embeddings`` (N, d), None without a model; ``embedded`` (N,) which rows of them count, None for all; ``detections`` on them, None
    without a detector; ``query_entropy`` (N,) the mean entropy of all its queries; ``saturated`` (N,) where nearly all of them answered.
    ``known``: the objects of the reviewed tiles (what lies elsewhere is not read), None where nobody counted; ``class_names`` (C,).

    Raises:
        BadInput: shapes that do not agree, a tile named twice, a tile to choose without an embedding, a number that is none.
    """

    tile_ids: Integers
    scene_ids: Integers
    windows_scene: Floats
    splits: NDArray[np.str_]
    reviewed: NDArray[np.bool_]
    embeddings: NDArray[np.floating] | None = None
    embedded: NDArray[np.bool_] | None = None
    detections: Detections | None = None
    query_entropy: Floats | None = None
    saturated: NDArray[np.bool_] | None = None
    known: KnownObjects | None = None
    class_names: tuple[str, ...] = ("object",)
    waiting: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        count = len(self.tile_ids)
        object.__setattr__(self, "tile_ids", np.asarray(self.tile_ids, dtype=np.int64))
        object.__setattr__(self, "scene_ids", np.asarray(self.scene_ids, dtype=np.int64))
        object.__setattr__(self, "windows_scene", np.asarray(self.windows_scene, dtype=np.float64).reshape(-1, 4))
        object.__setattr__(self, "splits", np.asarray(self.splits, dtype=np.str_))
        object.__setattr__(self, "reviewed", np.asarray(self.reviewed, dtype=bool))
        if self.embedded is None:
            object.__setattr__(self, "embedded", np.full(count, self.embeddings is not None))
        for name in COLUMNS:
            column = getattr(self, name)
            if column is not None and len(column) != count:
                raise BadInput(f"{len(column)} {name} for {count} tiles", expected="one a tile")
        ids, times = np.unique(self.tile_ids, return_counts=True)
        if (times > 1).any():
            raise BadInput(f"tile {int(ids[times > 1][0])} stands twice among the candidates", expected="distinct tiles")
        self._require_known_rows()
        self._require_numbers()

    def _require_known_rows(self) -> None:
        count = len(self)
        for name, rows in (("detection", self.detections), ("known object", self.known)):
            if rows is not None and len(rows) and rows.tile_index.max() >= count:
                raise BadInput(f"a {name} on row {int(rows.tile_index.max())} of {count} tiles")
        if self.known is not None and len(self.known) and self.known.labels.max() >= self.classes:
            raise BadInput(f"a known object of class {int(self.known.labels.max())}", expected=f"a class in [0, {self.classes})")
        if self.embeddings is not None and not self.has_embedding[self.selectable].all():
            blind = int(self.tile_ids[self.selectable & ~self.has_embedding].min())
            raise BadInput(f"tile {blind} has no embedding", remedy="Run `tilehawk predict` on all train tiles")

    def _require_numbers(self) -> None:
        wrong = np.zeros(0, dtype=bool) if self.detections is None else self.detections.wrong
        if self.detections is not None and wrong.any():
            tile = int(self.tile_ids[self.detections.tile_index[wrong]].min())
            raise BadInput(
                f"a detection on tile {tile} with a number that is not finite or a score outside [0, 1]",
                expected="boxes in pixels and probabilities",
                remedy="Run `tilehawk predict` again; if it stays, the model is damaged",
            )
        for name in ("embeddings", "query_entropy"):
            column = getattr(self, name)
            if column is not None:
                finite = np.isfinite(column.reshape(len(self), -1)).all(axis=1) | ~self.has_embedding
                if not finite.all():
                    raise BadInput(f"{name} of tile {int(self.tile_ids[~finite].min())} with a number that is not finite")

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tile_ids)

    @property
    def classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def selectable(self) -> NDArray[np.bool_]:
        """Mask (N,) of the tiles that can be chosen."""
        mask: NDArray[np.bool_] = (self.splits == "train") & ~self.reviewed & ~self.chosen_before
        return mask

    @property
    def chosen_before(self) -> NDArray[np.bool_]:
        """Mask (N,) of the train tiles that wait for an annotator: nobody knows what they hold, but it will be paid for."""
        if self.waiting is None:
            return np.zeros(len(self), dtype=bool)
        mask: NDArray[np.bool_] = (self.splits == "train") & ~self.reviewed & np.asarray(self.waiting, dtype=bool)
        return mask

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Mask (N,) of the train tiles that are annotated; tiles of other splits have no say."""
        mask: NDArray[np.bool_] = (self.splits == "train") & self.reviewed
        return mask

    @property
    def has_embedding(self) -> NDArray[np.bool_]:
        """Mask (N,) of the tiles whose row of ``embeddings`` counts."""
        return np.asarray(self.embedded, dtype=bool)

    @property
    def labelled_objects(self) -> KnownObjects:
        """The known objects that lie on labelled tiles."""
        if self.known is None:
            return KnownObjects.nothing()
        return self.known.take(self.labelled[self.known.tile_index])

    def by_id(self) -> Candidates:
        """The same tiles ordered by id, so that nothing depends on the order in which they were given."""
        order = np.argsort(self.tile_ids, kind="stable")
        if (order == np.arange(len(order))).all():
            return self
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        moved: dict[str, Any] = {name: None if (column := getattr(self, name)) is None else column[order] for name in COLUMNS}
        for name in ("detections", "known"):
            held = getattr(self, name)
            moved[name] = None if held is None else replace(held, tile_index=place[held.tile_index])
        return replace(self, **moved)


def overlapping(windows_scene: Floats, window: Floats, share: float) -> NDArray[np.bool_]:
    """Mask (N,) of the windows (N, 4) of one scene of which more than ``share`` of the area lies in ``window`` (4,)."""
    sides = np.minimum(windows_scene[:, 2:], window[2:]) - np.maximum(windows_scene[:, :2], window[:2])
    common = np.clip(sides, 0, None).prod(axis=1)
    inside: NDArray[np.bool_] = common > share * (windows_scene[:, 2:] - windows_scene[:, :2]).prod(axis=1)
    return inside
