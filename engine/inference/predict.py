"""The detector on many tiles: boxes, class scores, layer drift, and an embedding a tile."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms, box_convert, box_iou

from engine.inference.predictions import DESCRIBED_FROM, Predictions
from engine.inference.quarters import joined_looks, quarters
from engine.models.detector import Detections, Detector, Layer
from engine.models.encoder import Memory
from engine.progress import Progress

_LOG = logging.getLogger(__name__)
_SURE = 0.1
_SATURATED = 0.9

__all__ = ["TilePrediction", "embed_tiles", "object_features", "predict_batch", "predict_tiles"]


class TilePrediction(NamedTuple):
    """What the detector says of one tile; P boxes, best first."""

    boxes: Tensor
    """(P, 4) as (x1, y1, x2, y2) in tile pixels."""
    labels: Tensor
    """(P,)."""
    class_scores: Tensor
    """(P, C) independent probabilities."""
    drift: Tensor
    """(P,) 1 − IoU between boxes before and after the last decoder layer: how little the decoder has settled."""
    embedding: Tensor
    """(2 · D,), unit length."""
    saturated: bool = False
    """Whether nine of ten queries say that something is there: the tile may hold more objects than the detector has queries."""
    query_entropy: float = 0.0
    """Mean over all queries of the binary entropy of their best score, in bits."""
    features: Tensor | None = None
    """(F, D) what lies at the centres of the boxes with a score of :data:`engine.inference.predictions.DESCRIBED_FROM` or more."""


def embed_tiles(memory: Memory) -> Tensor:
    """Unit vectors (B, 2 · D): the mean and the maximum of all tokens, so that a few objects on a large ground still count."""
    tokens = memory.tokens.float()
    mean = functional.normalize(tokens.mean(1), dim=-1)
    peak = functional.normalize(tokens.amax(1), dim=-1)
    return functional.normalize(torch.cat([mean, peak], -1), dim=-1)


def object_features(memory: Memory, image: int, boxes: Tensor) -> Tensor:
    """What lies at the centres of boxes (P, 4) as (cx, cy, w, h), normalised: the mean (P, D) of all levels of ``memory``."""
    tokens = memory.tokens[image].float()
    centres = (2 * boxes[:, :2] - 1)[None, None].to(tokens)
    found, first = torch.zeros(len(boxes), tokens.shape[-1], device=tokens.device), 0
    for height, width in memory.shapes:
        level = tokens[first : first + height * width].T.reshape(1, -1, height, width)
        found += functional.grid_sample(level, centres, padding_mode="border", align_corners=False)[0, :, 0].T
        first += height * width
    return found / max(len(memory.shapes), 1)


def _before_the_last(layers: list[Layer]) -> Tensor:
    """Boxes (B, N, 4) before the last decoder layer moved them; those after it where it began at points, which are no boxes."""
    if len(layers) > 1:
        return layers[-2].boxes
    started = layers[-1].starts
    return layers[-1].boxes if started is None or started.shape[-1] != 4 else started


def _tile(
    found: Detections, embedding: Tensor, image: int, size: int, extent: Tensor, threshold: float, iou_threshold: float
) -> TilePrediction:
    scores = found.layers[-1].scores[image]
    boxes = box_convert(found.layers[-1].boxes[image], "cxcywh", "xyxy")
    drift = 1 - box_iou(boxes, box_convert(_before_the_last(found.layers)[image], "cxcywh", "xyxy")).diagonal()
    corner = extent.to(boxes).repeat(2)
    boxes = torch.minimum((boxes * size).clamp(min=0), corner)
    best, labels = scores.max(-1)
    solid = ((boxes[:, 2:] - boxes[:, :2]) >= 1.0).all(1) & (best >= threshold)
    index = solid.nonzero()[:, 0]
    kept = index[batched_nms(boxes[index], best[index], labels[index], iou_threshold)]
    saturated = float((best >= max(threshold, _SURE)).float().mean()) >= _SATURATED
    described = kept[best[kept] >= DESCRIBED_FROM]
    features = object_features(found.memory, image, found.layers[-1].boxes[image, described])
    return TilePrediction(
        boxes[kept], labels[kept], scores[kept], drift[kept], embedding, saturated, float(_binary_entropy(best).mean()), features
    )


def _binary_entropy(scores: Tensor) -> Tensor:
    """In bits, of ``scores`` in [0, 1]."""
    inner = scores.float().clamp(1e-12, 1)
    other = (1 - scores.float()).clamp(1e-12, 1)
    return -(inner * inner.log2() + other * other.log2())


@torch.inference_mode()
def predict_batch(
    model: Detector,
    images: Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    extents: Tensor | None = None,
    only_embeddings: bool = False,
) -> list[TilePrediction]:
    """Detect on images (B, 3, S, S), RGB in [0, 1].

    Args:
        model: in evaluation mode.
        images: square, black where a tile is smaller.
        extents: (B, 2) width and height of each tile in pixels, to which its boxes are clipped; None where all fill the square.
        score_threshold: boxes below it are dropped.
        iou_threshold: of two boxes of one class that overlap more, the weaker is dropped; 1 keeps all.
        only_embeddings: boxes are not asked for; always so where the model has no classes.
    """
    size = images.shape[-1]
    if only_embeddings or not model.num_classes:
        embeddings = embed_tiles(model.encode(images))
        none = images.new_zeros(0)
        return [TilePrediction(none.view(0, 4), none.long(), none.view(0, 0), none, vector) for vector in embeddings]
    found: Detections = model(images)
    embeddings = embed_tiles(found.memory)
    extents = torch.full((len(images), 2), size) if extents is None else extents
    return [_tile(found, embeddings[image], image, size, extents[image], score_threshold, iou_threshold) for image in range(len(images))]


def _batches(tiles: Iterable[tuple[int, Tensor]], batch_size: int) -> Iterator[tuple[list[int], Tensor]]:
    ids: list[int] = []
    images: list[Tensor] = []
    for tile_id, image in tiles:
        ids.append(tile_id)
        images.append(image)
        if len(ids) == batch_size:
            yield ids, torch.stack(images)
            ids, images = [], []
    if ids:
        yield ids, torch.stack(images)


def predict_tiles(
    model: Detector,
    tiles: Iterable[tuple[int, Tensor]],
    count: int,
    *,
    batch_size: int,
    score_threshold: float,
    iou_threshold: float,
    progress: Progress,
    extents: Sequence[tuple[int, int]] | None = None,
    only_embeddings: bool = False,
    split_saturated: bool = False,
) -> Predictions:
    """Detect on all tiles, one batch in memory at a time.

    Args:
        model: in evaluation mode, on its device.
        tiles: (tile id, image (3, S, S) uint8) in ascending order of ids.
        count: how many tiles will come.
        batch_size: tiles a forward pass.
        score_threshold: boxes below it are dropped.
        iou_threshold: duplicates of one class above it are dropped.
        progress: told after every batch, and at the end of tiles in which nearly all queries answered (logged as a warning too).
        extents: width and height of each tile in pixels, in the order of ``tiles``; boxes are clipped to them. None where all fill
            the square.
        only_embeddings: boxes are not asked for; always so where the model has no classes.
        split_saturated: a tile that may hold more objects than there are queries is looked at in enlarged quarters too.
    """
    device = next(model.parameters()).device
    ids: list[int] = []
    found: list[TilePrediction] = []
    progress(0, count, "predict")
    for batch_ids, images in _batches(tiles, batch_size):
        pixels = images.to(device).float().div(255).contiguous(memory_format=torch.channels_last)
        sides = None if extents is None else torch.tensor(extents[len(ids) : len(ids) + len(batch_ids)])
        looked = predict_batch(
            model,
            pixels,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            extents=sides,
            only_embeddings=only_embeddings,
        )
        if split_saturated:
            looked = [
                _look_closer(model, pixels[place], tile, None if sides is None else sides[place], score_threshold, iou_threshold)
                if tile.saturated
                else tile
                for place, tile in enumerate(looked)
            ]
        found += looked
        ids += batch_ids
        progress(len(ids), count, "predict")
    _warn_of_saturation([tile_id for tile_id, tile in zip(ids, found, strict=True) if tile.saturated], model, progress, count)
    classes = 1 if only_embeddings else max(model.num_classes, 1)
    scores = _joined(found, "class_scores", classes)
    return Predictions(
        tile_ids=np.asarray(ids, dtype=np.int64),
        embeddings=_joined(found, "embedding", 2 * model.config.dimension),
        tile_index=np.repeat(np.arange(len(found)), [len(tile.boxes) for tile in found]).astype(np.int64),
        boxes_tile=_joined(found, "boxes", 4),
        labels=_joined(found, "labels", 1)[:, 0].astype(np.int64),
        scores=scores.max(1, initial=0.0),
        class_scores=scores,
        drift=_joined(found, "drift", 1)[:, 0].clip(0, 1),
        **_described(found, model),
    )


def _look_closer(
    model: Detector, image: Tensor, tile: TilePrediction, extent: Tensor | None, score_threshold: float, iou_threshold: float
) -> TilePrediction:
    """The tile again, its quarters beside the whole; saturated still where a quarter is."""
    parts, windows = quarters(image)
    extent = torch.full((2,), image.shape[-1]) if extent is None else extent
    enlarged = parts.contiguous(memory_format=torch.channels_last)
    looks = predict_batch(model, enlarged, score_threshold=score_threshold, iou_threshold=iou_threshold)
    boxes, labels, scores, drift, features = joined_looks(tile, looks, windows, extent, iou_threshold)
    return tile._replace(
        boxes=boxes,
        labels=labels,
        class_scores=scores,
        drift=drift,
        features=features,
        saturated=any(look.saturated for look in looks),
    )


def _described(found: list[TilePrediction], model: Detector) -> dict[str, Any]:
    """What only a detector knows of tiles and objects."""
    if any(tile.features is None for tile in found):
        return {}
    return {
        "query_entropy": np.asarray([tile.query_entropy for tile in found], dtype=np.float32),
        "saturated": np.asarray([tile.saturated for tile in found], dtype=bool),
        "features": _joined(found, "features", model.config.dimension).astype(np.float16),
    }


def _warn_of_saturation(tile_ids: list[int], model: Detector, progress: Progress, count: int) -> None:
    if not tile_ids:
        return
    message = (
        f"{len(tile_ids)} tiles may hold more objects than the detector finds: its {model.config.num_queries} queries answered, first in "
        f"tile {tile_ids[0]}. Train with a larger num_queries, or cut smaller tiles"
    )
    _LOG.warning(message)
    progress(count, count, message)


def _joined(found: list[TilePrediction], name: str, width: int) -> NDArray[np.float32]:
    """One field of all tiles, as rows of ``width`` numbers."""
    parts = [getattr(tile, name).float().cpu().numpy().reshape(-1, width) for tile in found]
    rows: NDArray[np.float32] = np.concatenate([np.zeros((0, width), dtype=np.float32), *parts])
    return rows
