"""Tiles with regions in place of labels: found once, for every run that asks for the same on the same tiles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import CheckpointRefused
from engine.files import sweep_temporary
from engine.models.detector import Detector
from engine.pretext.frozen import FrozenBackbone
from engine.pretext.regions import RegionConfig, find_regions
from engine.pretext.tile_boxes import TileBoxes
from engine.progress import Progress, silent
from engine.training.data import Part, TileSource

__all__ = ["RegionStore", "taught_regions"]

KEPT = 4
"""Files that stay: those used last."""


class RegionStore:
    """Regions that were found before, a file for whatever was asked; the last few are kept.

    Args:
        folder: where the files are; made with the first of them.
        tiles: a hash of the tiles, which changes with any of their pixels.
    """

    def __init__(self, folder: Path, tiles: str) -> None:
        self._folder = folder
        self._tiles = tiles

    def found(self, asked: list[Any], find: Callable[[], TileBoxes]) -> TileBoxes:
        """The regions that were found for ``asked`` (JSON-ready), or those that ``find`` finds now; a damaged file is made anew."""
        fingerprint = hashlib.sha256(json.dumps([*asked, self._tiles], sort_keys=True).encode()).hexdigest()
        path = self._folder / f"{fingerprint[:16]}.safetensors"
        try:
            held = TileBoxes.load(path, fingerprint)
        except CheckpointRefused:
            held = None
        if held is not None:
            path.touch()
            return held
        made = find()
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep_temporary(self._folder)
        made.save(path, fingerprint)
        by_use = sorted(self._folder.glob("*.safetensors"), key=lambda each: (each != path, -each.stat().st_mtime_ns))
        for unused in by_use[KEPT:]:
            unused.unlink(missing_ok=True)
        return made


def taught_regions(
    model: Detector,
    config: RegionConfig,
    source: TileSource,
    *,
    seed: int,
    store: RegionStore | None = None,
    progress: Progress = silent,
) -> TileSource:
    """The tiles with regions in place of labels, no more than ``config.tiles``.

    Args:
        model: whose backbone says, as it is now, what stands out and what is alike.
        config: what regions are.
        source: the tiles.
        seed: decides which tiles, segmentations and clusters.
        store: of the regions that were found before; None to find them in any case.
        progress: told while they are found.

    Raises:
        NothingToDo: fewer regions than clusters.
    """
    if len(source) > config.tiles:
        source = Part(source, np.sort(np.random.default_rng(seed).permutation(len(source))[: config.tiles]))

    def find() -> TileBoxes:
        return find_regions(source, config, network=model, seed=seed, progress=progress)

    if store is None:
        return find().on(source, absence=config.absence)
    matters = config.model_dump(mode="json", include={"proposals", "clusters", "turned", "crop"}) | {"named": config.named}
    asked = [matters, seed, len(source), model.config.image_size, model.config.reads_fine, FrozenBackbone(model).fingerprint]
    return store.found(asked, find).on(source, absence=config.absence)
