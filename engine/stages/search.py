"""``search``: where on the training ground something lies that looks like what one drawn box shows."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from engine.catalog.growing_search import finish, is_finished, replace_hits, unfinished
from engine.catalog.look_alikes import LookAlikes, grids_directory
from engine.catalog.models import asked_model, model_directory
from engine.catalog.pixels import TilePixels
from engine.catalog.searches import FoundHit, add_search, hits, searches
from engine.catalog.tile_grids import forget_older
from engine.catalog.tiles import TileRecord, tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, NothingToDo, UnreadableImage
from engine.evaluation.drawing import close_up, contact_sheet
from engine.models.store import StoredModel, load_detector
from engine.progress import Progress, silent

__all__ = ["SearchConfig", "SearchReport", "search"]

SMALLEST_SIDE_PIXELS = 8.0
OUTSIDE_PIXELS = 1.0
ASKED_TILES = 60
PICTURED = 29
CLOSE_UP = 160
WINDOWS_A_HIT = 3
SECONDS_BETWEEN_STORES = 1.0
"""Hits that are found sooner after the last are stored with the next."""
Box = tuple[float, float, float, float]


class SearchConfig(StageConfig):
    """What is sought, and how thoroughly."""

    tile: int = Field(ge=1)
    """The tile on which the box was drawn."""
    box: Box
    """x1, y1, x2, y2 of the box in tile pixels: one object, tightly."""
    model: str | None = None
    """The model; none for the newest one-shot or pre-trained one, or the newest of all where there is neither."""
    hits: int = Field(default=40, ge=1, le=1000)
    """Look-alikes kept, at most."""
    candidates: int = Field(default=300, ge=1)
    """Windows that are cut out and looked at closely, chosen among all by the tiles' feature maps; three a hit where that is more, for
    several of them show the same object."""
    refined: int = Field(default=40, ge=0)
    """Of the best boxes, how many are moved about for a better fit."""
    one_shot_tiles: int | None = Field(default=None, ge=0)
    """On how many of the most promising tiles the model is asked for boxes too; none for 60 where it was taught to be asked (one-shot
    training, or pre-training with look-alikes), else for 0: the query slots of a short pre-training add nothing."""
    patch_size: int = Field(default=64, ge=32)
    """Side to which a box is resized before the backbone describes it, in pixels; as in pre-training."""
    batch_size: int = Field(default=8, ge=1)
    """Tiles a forward pass."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves torch's own choice."""

    @model_validator(mode="after")
    def _box_has_an_area(self) -> Self:
        x1, y1, x2, y2 = self.box
        if x2 <= x1 or y2 <= y1:
            raise ValueError(f"box {self.box} must have x1 < x2 and y1 < y2")
        return self


@dataclass(frozen=True)
class SearchReport:
    """What was found; the hits themselves are in the catalog."""

    search: int
    model: str
    tiles: int
    """tiles of the training ground that were searched"""
    described: int
    """tiles whose features were computed in this call; the others were known"""
    hits: int
    seconds: float
    already_there: bool
    """the very same search had been done before, and its hits are returned"""
    picture: str = ""
    """a sheet of the query and its hits, relative to the workspace's folder"""


def search(workspace: Workspace, config: SearchConfig, *, progress: Progress = silent) -> SearchReport:
    """Find look-alikes on tiles of the training ground, the best first; dev and test ground are never shown.

    The features of tiles are kept under ``predictions/`` by content, backbone and input size, so that later searches need not compute
    them. The same search again returns the hits that are stored, as long as neither model nor training ground has changed. The hits are
    stored as they are found, the first within seconds, and again each time that more was looked at; what was found stays where the search
    is stopped, and the same search again goes on with it.

    Raises:
        BadInput: no such tile or model, or a box outside the tile.
        NothingToDo: there is no tile of the training ground.
        UsageError: tiles larger than the model's input.
        CheckpointRefused: the model is damaged.
    """
    began = time.monotonic()
    if config.threads:
        torch.set_num_threads(config.threads)
    with workspace.worker_lock("search"):
        with workspace.session(write=False) as session:
            row = asked_model(session, config.model)
            asked = tiles(session, ids=[config.tile])
            archive = tiles(session, split="train")
        if not asked:
            raise BadInput(f"no tile {config.tile} that belongs to a split", remedy="Take a number from the page Imagery")
        if not archive:
            raise NothingToDo("there is no tile of the training ground", remedy="Take imagery in: tilehawk ingest ARCHIVE_OR_FOLDER")
        box = _inside(config.box, asked[0])
        model, stored = load_detector(model_directory(workspace, row.name))
        fingerprint = _fingerprint(config, box, asked[0], stored, archive)
        with workspace.session(write=False) as session:
            known = [each for each in searches(session, fingerprint=fingerprint) if is_finished(session, each.id)]
        if known:
            if not (workspace.root / _picture(known[0].id)).exists():
                with workspace.session(write=False) as session:
                    stored_hits = [FoundHit(hit.tile.id, hit.box_tile, hit.score) for hit in hits(session, known[0].id)]
                _picture_of(workspace, known[0].id, [*archive, asked[0]], (asked[0].id, box), stored_hits)
            seconds = time.monotonic() - began
            return SearchReport(known[0].id, row.name, len(archive), 0, known[0].hits, seconds, True, _picture(known[0].id))
        with TilePixels(workspace) as pixels:
            finder = LookAlikes(workspace, model, pixels, archive, batch_size=config.batch_size, patch_size=config.patch_size)
            forget_older(grids_directory(workspace, model))
            store = _Store(workspace, config, box=box, model_id=row.id, fingerprint=fingerprint)
            found: list[FoundHit] = []
            for found in _rankings(finder, asked[0], box, config, taught=model.config.one_shot, progress=progress):
                store.so_far(found)
        number = store.at_the_end(found, row.name)
        _picture_of(workspace, number, [*archive, asked[0]], (asked[0].id, box), found)
        return SearchReport(number, row.name, len(archive), finder.fresh, len(found), time.monotonic() - began, False, _picture(number))


class _Store:
    """Where the hits of one search go while it runs."""

    def __init__(self, workspace: Workspace, config: SearchConfig, *, box: Box, model_id: int, fingerprint: str) -> None:
        self._workspace, self._config, self._box, self._model_id, self._fingerprint = workspace, config, box, model_id, fingerprint
        self._number: int | None = None
        self._stored_at = -SECONDS_BETWEEN_STORES

    def so_far(self, found: Sequence[FoundHit]) -> None:
        """Store what is found so far, unless there is nothing yet or something was stored a moment ago."""
        if found and time.monotonic() - self._stored_at >= SECONDS_BETWEEN_STORES:
            with self._workspace.session() as session:
                self._put(session, found)
            self._stored_at = time.monotonic()

    def at_the_end(self, found: Sequence[FoundHit], model: str) -> int:
        """Store what was found, and that this is all; returns the number of the search."""
        with self._workspace.session() as session:
            number = self._put(session, found)
            finish(session, number, tile=self._config.tile, model=model, hits=len(found))
        return number

    def _put(self, session: Session, found: Sequence[FoundHit]) -> int:
        number = self._number or unfinished(session, self._fingerprint)
        if number is None:
            number = add_search(
                session,
                fingerprint=self._fingerprint,
                tile_id=self._config.tile,
                box_tile=self._box,
                model_id=self._model_id,
                config=self._config.model_dump(mode="json"),
                found=found,
            )
        else:
            replace_hits(session, number, found)
        self._number = number
        return number


def _rankings(
    finder: LookAlikes, tile: TileRecord, box: Box, config: SearchConfig, *, taught: bool, progress: Progress
) -> Iterator[list[FoundHit]]:
    """What is found, again and again: on the tiles that are described, while others still are, then everywhere; the last is all of it."""
    due = 0
    for described in finder.describing(progress):
        if described >= due:
            due = max(1, 2 * described)
            yield finder.glimpse(tile, box, config.hits)
    yield from finder.rankings(
        finder.query(tile, box),
        hits=config.hits,
        candidates=max(config.candidates, WINDOWS_A_HIT * config.hits),
        refined=config.refined,
        one_shot_tiles=(ASKED_TILES if taught else 0) if config.one_shot_tiles is None else config.one_shot_tiles,
        progress=progress,
    )


def _picture(number: int) -> str:
    return f"reports/searches/look-alikes-{number}.png"


def _picture_of(workspace: Workspace, number: int, known: Sequence[TileRecord], query: tuple[int, Box], found: Sequence[FoundHit]) -> None:
    with TilePixels(workspace) as pixels:
        _draw(workspace.root / _picture(number), pixels, {tile.id: tile for tile in known}, query, found)


def _draw(path: Path, pixels: TilePixels, known: dict[int, TileRecord], query: tuple[int, Box], found: Sequence[FoundHit]) -> None:
    """The query, then the best hits, each with its surroundings and its score; a tile that cannot be read any more is left out."""
    pictures = []
    wanted = [("query", *query)] + [(f"{hit.score:.2f}  tile {hit.tile_id}", hit.tile_id, hit.box_tile) for hit in found[:PICTURED]]
    for caption, tile, box in wanted:
        try:
            pictures.append((caption, close_up(pixels.read(known[tile]), box, side=CLOSE_UP)))
        except UnreadableImage:
            continue
    if pictures:
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(pictures, path, columns=6, cell=CLOSE_UP)


def _inside(box: Box, tile: TileRecord) -> Box:
    """The box, an edge that lies a hair outside of the tile moved onto its border."""
    width, height = tile.window.width, tile.window.height
    x1, y1, x2, y2 = np.clip(box, 0, [width, height, width, height]).tolist()
    if not np.abs(np.subtract(box, (x1, y1, x2, y2))).max() <= OUTSIDE_PIXELS:
        raise BadInput(
            f"the box {list(box)} reaches out of tile {tile.id}",
            expected=f"x from 0 to {width} and y from 0 to {height}",
            remedy="Draw the box around one object of the tile",
        )
    if x2 - x1 < SMALLEST_SIDE_PIXELS or y2 - y1 < SMALLEST_SIDE_PIXELS:
        raise BadInput(
            f"the box {list(box)} on tile {tile.id} of {width} × {height} pixels",
            expected=f"sides of {SMALLEST_SIDE_PIXELS:.0f} pixels at least inside the tile",
            remedy="Draw the box around one object",
        )
    return x1, y1, x2, y2


def _fingerprint(config: SearchConfig, box: tuple[float, ...], tile: TileRecord, stored: StoredModel, archive: Sequence[TileRecord]) -> str:
    document: dict[str, Any] = config.model_dump(mode="json", exclude={"model", "batch_size", "threads", "box"})
    document |= {"box": box, "content": tile.content_hash, "model": stored.manifest["sha256"]}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for each in archive:
        digest.update(f"{each.id} {each.content_hash}\n".encode())
    return digest.hexdigest()
