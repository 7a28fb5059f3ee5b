"""What one model saw on a set of tiles: boxes, class scores and embeddings, held in memory and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.boxes import Boxes
from engine.errors import BadInput
from engine.files import atomic_directory, sha256_of

__all__ = ["DESCRIBED_FROM", "Predictions", "stored_detections"]

VERSION, READ_VERSIONS = 2, (1, 2)
DETECTIONS, EMBEDDINGS, TILE_IDS, MANIFEST = "detections.parquet", "embeddings.npy", "tile_ids.npy", "manifest.json"
OPTIONAL = ("query_entropy", "saturated", "features")
TOLERANCE = 1e-6

DESCRIBED_FROM = 0.1
"""Detections from this score up have features."""

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """P detections over C ≥ 1 classes on N tiles, with an embedding of d numbers a tile.

    ``tile_ids`` (N,) strictly rising; ``embeddings`` (N, d); ``tile_index`` (P,) the detection's row in ``tile_ids``, never falling;
    ``boxes_tile`` (P, 4) xyxy in tile pixels; ``labels`` (P,) in [0, C); ``scores`` (P,) the score of ``labels``, in [0, 1];
    ``class_scores`` (P, C) sigmoid probabilities; ``drift`` (P,) in [0, 1], 1 − IoU between boxes before and after the last layer;
    ``queries`` (P,) the decoder slot, numbered within the tile where it is not given; ``query_entropy`` (N,) the mean over all queries of
    the binary entropy of their best score, in bits; ``saturated`` (N,) whether every query answered; ``features`` (F, d) float16 what
    lies at the centre of each of the F detections with a score of :data:`DESCRIBED_FROM` or more. The last three may be None.

    Raises:
        BadInput: naming the field whose shape, order or range is wrong.
    """

    tile_ids: Integers
    embeddings: Floats
    tile_index: Integers
    boxes_tile: Floats
    labels: Integers
    scores: Floats
    class_scores: Floats
    drift: Floats
    queries: NDArray[np.int32] | None = None
    query_entropy: Floats | None = None
    saturated: NDArray[np.bool_] | None = None
    features: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        kinds = {"tile_ids": np.int64, "tile_index": np.int64, "labels": np.int64}
        for name in ("tile_ids", "embeddings", "tile_index", "boxes_tile", "labels", "scores", "class_scores", "drift"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kinds.get(name, np.float32)))
        tiles, detections = len(self.tile_ids), len(self.tile_index)
        _require_shape("tile_ids", self.tile_ids, (tiles,))
        _require_shape("tile_index", self.tile_index, (detections,))
        _require_shape("embeddings", self.embeddings, (tiles, None))
        _require_shape("boxes_tile", self.boxes_tile, (detections, 4))
        _require_shape("class_scores", self.class_scores, (detections, None))
        _require(self.class_scores.shape[1] > 0, "class_scores", "one column a class, and at least one")
        for name in ("labels", "scores", "drift"):
            _require_shape(name, getattr(self, name), (detections,))
        _require(bool((np.diff(self.tile_ids) > 0).all()), "tile_ids", "strictly rising ids")
        _require(_within(self.tile_index, 0, tiles - 1), "tile_index", f"rows in [0, {tiles})")
        _require(bool((np.diff(self.tile_index) >= 0).all()), "tile_index", "detections in the order of their tiles")
        _require(_within(self.labels, 0, self.class_scores.shape[1] - 1), "labels", f"classes in [0, {self.class_scores.shape[1]})")
        for name in ("scores", "class_scores", "drift"):
            _require(_within(getattr(self, name), 0, 1 + TOLERANCE), name, "numbers in [0, 1]")
        _require(bool(np.isfinite(self.embeddings).all()), "embeddings", "finite numbers")
        _require(bool(np.isfinite(self.boxes_tile).all()), "boxes_tile", "finite numbers")
        _require(bool((self.boxes_tile[:, 2:] > self.boxes_tile[:, :2]).all()), "boxes_tile", "x1 < x2 and y1 < y2")
        if self.queries is None:
            first = np.searchsorted(self.tile_index, self.tile_index)
            object.__setattr__(self, "queries", (np.arange(detections) - first).astype(np.int32))
        _require_shape("queries", np.asarray(self.queries), (detections,))
        for name, shape in zip(OPTIONAL, ((tiles,), (tiles,), (int(self.described.sum()), None)), strict=True):
            column = getattr(self, name)
            if column is not None:
                _require_shape(name, column, shape)
                _require(bool(np.isfinite(column).all()), name, "finite numbers")

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tile_ids)

    @property
    def described(self) -> NDArray[np.bool_]:
        """Mask (P,) of the detections that have features, where there are any."""
        mask: NDArray[np.bool_] = self.scores >= DESCRIBED_FROM
        return mask

    @property
    def object_features(self) -> NDArray[np.float16] | None:
        """What lies at the centre of each detection (P, d), zeros where it has no features; None where nothing has."""
        if self.features is None:
            return None
        every = np.zeros((len(self.scores), self.features.shape[1]), dtype=np.float16)
        every[self.described] = self.features
        return every

    def of_tile(self, tile_id: int) -> Boxes:
        """The detections on one tile, in tile pixels, in the order in which they were predicted.

        Raises:
            BadInput: the tile is not among these predictions.
        """
        row = int(np.searchsorted(self.tile_ids, tile_id))
        if row == len(self.tile_ids) or self.tile_ids[row] != tile_id:
            raise BadInput(f"no predictions for tile {tile_id}", remedy="Run `tilehawk predict` on it")
        first, end = np.searchsorted(self.tile_index, [row, row + 1])
        part = slice(int(first), int(end))
        return Boxes(self.boxes_tile[part].astype(np.float64), self.labels[part], np.minimum(self.scores[part].astype(np.float64), 1.0))

    def covers(self, tile_ids: Integers) -> bool:
        """Whether every one of ``tile_ids`` (M,) was predicted on."""
        return bool(np.isin(tile_ids, self.tile_ids).all())

    def save(self, directory: Path, details: Mapping[str, Any] | None = None) -> None:
        """Write the predictions to ``directory``, old or complete at any moment; ``details`` (JSON-ready) go into the manifest."""
        with atomic_directory(directory) as folder:
            pq.write_table(self._table(), folder / DETECTIONS)
            np.save(folder / EMBEDDINGS, self.embeddings)
            np.save(folder / TILE_IDS, self.tile_ids)
            held = [name for name in OPTIONAL if getattr(self, name) is not None]
            for name in held:
                np.save(folder / f"{name}.npy", getattr(self, name))
            manifest = {
                "version": VERSION,
                "tiles": len(self.tile_ids),
                "detections": len(self.tile_index),
                "classes": self.class_scores.shape[1],
                "dimension": self.embeddings.shape[1],
                "details": dict(details or {}),
                "sha256": {
                    name: sha256_of(folder / name) for name in (DETECTIONS, EMBEDDINGS, TILE_IDS, *(f"{name}.npy" for name in held))
                },
            }
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def _table(self) -> Any:
        classes = self.class_scores.shape[1]
        columns = {
            "tile_id": pa.array(self.tile_ids[self.tile_index], pa.int64()),
            "query": pa.array(self.queries, pa.int32()),
            **{name: pa.array(self.boxes_tile[:, axis], pa.float32()) for axis, name in enumerate(("x1", "y1", "x2", "y2"))},
            "label": pa.array(self.labels, pa.int32()),
            "score": pa.array(self.scores, pa.float32()),
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(self.class_scores.reshape(-1), pa.float32()), classes),
            "drift": pa.array(self.drift, pa.float32()),
        }
        return pa.table(columns)

    @classmethod
    def load(cls, directory: Path) -> Predictions:
        """Read what :meth:`save` wrote; the embeddings stay a read-only memory map.

        Raises:
            BadInput: nothing there, another version, or a file that is not the one that was written.
        """
        remedy = "Run `tilehawk predict` again"
        try:
            manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
            names = [DETECTIONS, EMBEDDINGS, TILE_IDS, *(f"{name}.npy" for name in OPTIONAL if f"{name}.npy" in manifest["sha256"])]
            digests = {name: sha256_of(directory / name) for name in names}
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as missing:
            raise BadInput(f"no complete predictions in {directory}: {missing}", remedy=remedy) from missing
        if manifest.get("version") not in READ_VERSIONS:
            raise BadInput(
                f"{directory / MANIFEST} has version {manifest.get('version')!r}", expected=f"one of {READ_VERSIONS}", remedy=remedy
            )
        for name, digest in digests.items():
            if manifest["sha256"].get(name) != digest:
                raise BadInput(f"{directory / name} is not the file that was written", expected="its recorded sha256", remedy=remedy)
        table = pq.read_table(directory / DETECTIONS)
        tile_ids = np.load(directory / TILE_IDS, allow_pickle=False)
        class_scores = table["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return cls(
            tile_ids=tile_ids,
            embeddings=np.load(directory / EMBEDDINGS, mmap_mode="r", allow_pickle=False),
            tile_index=np.searchsorted(tile_ids, table["tile_id"].to_numpy()),
            boxes_tile=np.stack([table[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1),
            labels=table["label"].to_numpy(),
            scores=table["score"].to_numpy(),
            class_scores=class_scores.reshape(table.num_rows, manifest["classes"]),
            drift=table["drift"].to_numpy(),
            queries=table["query"].to_numpy(),
            **{
                name: np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in OPTIONAL if f"{name}.npy" in digests
            },
        )


def stored_detections(directory: Path, tile_ids: Sequence[int], score_threshold: float) -> dict[int, Boxes]:
    """By tile id, the detections from that score up, of those of ``tile_ids`` that :meth:`Predictions.save` wrote; no more is read.

    Raises:
        OSError, ValueError or an error of pyarrow: the files are missing or damaged; their hashes are not looked at.
    """
    known = np.load(directory / TILE_IDS, mmap_mode="r", allow_pickle=False)
    wanted = [tile_id for tile_id in tile_ids if _within_sorted(known, tile_id)]
    if not wanted:
        return {}
    columns = ["tile_id", "x1", "y1", "x2", "y2", "label", "score"]
    found = pq.read_table(
        directory / DETECTIONS, columns=columns, filters=[("tile_id", "in", wanted), ("score", ">=", score_threshold)]
    ).to_pydict()
    rows = np.column_stack([np.asarray(found[name], dtype=np.float64) for name in columns])
    parts = {tile_id: rows[rows[:, 0] == tile_id] for tile_id in wanted}
    return {tile_id: Boxes(part[:, 1:5], part[:, 5].astype(np.int64), part[:, 6].clip(0, 1)) for tile_id, part in parts.items()}


def _within_sorted(known: Integers, tile_id: int) -> bool:
    row = int(np.searchsorted(known, tile_id))
    return row < len(known) and int(known[row]) == tile_id


def _require(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise BadInput(f"predictions with wrong {name}", expected=expected)


def _require_shape(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    if array.ndim != len(shape) or any(wanted is not None and found != wanted for found, wanted in zip(array.shape, shape, strict=True)):
        raise BadInput(f"predictions with {name} of shape {array.shape}", expected=f"{shape}")


def _within(numbers: NDArray[Any], low: float, high: float) -> bool:
    return bool(np.isfinite(numbers).all() and (numbers >= low).all() and (numbers <= high).all())
