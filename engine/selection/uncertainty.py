"""How unsure a detection transformer is about a tile, counted over its objects and not over its queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engine.config import StageConfig
from engine.selection.detections import Detections

__all__ = ["UncertaintyConfig", "object_uncertainty", "tile_uncertainty"]

Floats = NDArray[np.float64]


class UncertaintyConfig(StageConfig):
    """How the doubts in objects add up to the doubt in a tile."""

    ambiguity_weight: float = Field(default=0.5, ge=0)
    """λ: what doubt between two classes weighs against doubt whether there is an object at all."""
    drift_weight: float = Field(default=0.0, ge=0)
    """What a box that the last decoder layer still moved (1 − IoU) weighs against doubt whether there is an object at all."""
    strongest_objects: int = Field(default=10, ge=1)
    """m: a tile's uncertainty is the sum over its m most uncertain objects."""


def object_uncertainty(class_scores: Floats, ambiguity_weight: float) -> Floats:
    """Doubt u = H(s₁) + λ·(1 − margin) in each object (P,), from its class scores (P, C).

    H is the binary entropy of the best score s₁ in bits; margin = 1 − s₂/s₁, relative to s₁ so that a weak object is not called
    ambiguous for being weak. With one class there is nothing to confuse and the margin is 1.
    """
    ordered = np.sort(class_scores, axis=1)[:, ::-1]
    best = np.clip(ordered[:, 0], 0, 1)
    inner = np.clip(best, 1e-12, 1 - 1e-12)
    entropy: Floats = -(inner * np.log2(inner) + (1 - inner) * np.log2(1 - inner))
    if class_scores.shape[1] == 1:
        return entropy
    ambiguity = np.divide(ordered[:, 1], ordered[:, 0], out=np.zeros_like(best), where=ordered[:, 0] > 0)
    doubt: Floats = entropy + ambiguity_weight * ambiguity
    return doubt


def tile_uncertainty(objects: Detections, tiles: int, config: UncertaintyConfig, class_weights: Floats | None = None) -> Floats:
    """U (tiles,): the sum of the m largest object uncertainties on each tile.

    Args:
        objects: of :func:`engine.selection.detections.keep_objects`.
        tiles: how many tiles there are.
        config: how doubts add up.
        class_weights: (C,) by which the doubt in an object of a class is multiplied; None for 1.
    """
    doubt = object_uncertainty(objects.class_scores, config.ambiguity_weight)
    if config.drift_weight and objects.drift is not None:
        doubt = doubt + config.drift_weight * objects.drift
    if class_weights is not None and len(objects):
        doubt = doubt * class_weights[objects.class_scores.argmax(axis=1)]
    order = np.lexsort((-doubt, objects.tile_index))
    tile = objects.tile_index[order]
    place = np.arange(len(tile)) - np.searchsorted(tile, tile)
    strongest = place < config.strongest_objects
    return np.bincount(tile[strongest], weights=doubt[order][strongest], minlength=tiles).astype(np.float64)
