"""What on an archive's tiles looks like one box: tiles described once, windows compared on feature maps, the best looked at closely."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.searches import FoundHit
from engine.catalog.tile_grids import PREFIX, HeldGrids, TileGrids
from engine.catalog.tiles import TileRecord
from engine.catalog.workspace import Workspace
from engine.errors import UnreadableImage
from engine.inference.one_shot import detect_like, patch_feature
from engine.inference.similarity import (
    Windows,
    best_windows,
    cut_patches,
    describe_grid,
    describe_patches,
    grid_stride,
    like_windows,
    mean_on_grid,
    similarity_maps,
    size_difference,
)
from engine.models.detector import Detector
from engine.progress import Progress, silent, track
from engine.training.data import read_batches

__all__ = ["LookAlikes", "Query", "grids_directory"]

SHARD = 256
SMALLEST_SIDE_PIXELS = 2.0
SAME_OBJECT_IOU = 0.3
SIZE_PRIOR = 0.2
"""What a box e times larger or smaller than the query loses of its likeness: seen from above, objects of a kind are of a size."""
ONE_SHOT_BOXES = 8
"""Boxes a tile that the model proposes, at most."""
FIRST_WINDOWS, WINDOWS_AT_ONCE = 48, 128
"""Windows that are looked at closely before the first hits are shown, and before each time that they are shown anew."""
ASKED_AT_ONCE = 15
DUPLICATE_IOU = 0.5
TRUST = 1.0
"""How much the score of a detector that was taught to be asked counts beside a box's likeness."""
NUDGES = (
    *((0.2 * x, 0.2 * y, 1.0) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))),
    *((0.15 * x, 0.15 * y, 1.0) for x, y in ((1, 1), (-1, 1), (1, -1), (-1, -1))),
    *((0.0, 0.0, scale) for scale in (0.8, 1.25)),
)
"""Where a better box may lie: steps in shares of the box's sides, and its scale."""


class Query(NamedTuple):
    """What is sought: where it was drawn, and how it is described."""

    tile: TileRecord
    box: Tensor
    """(4,) tile pixels."""
    patch: Tensor
    """(3, s, s) in [0, 1]."""
    appearance: Tensor
    """(d,) of the patch, the mean over its orientations."""
    on_grid: Tensor
    """(C,) on the tile's feature map."""


class LookAlikes:
    """Finds on some tiles what looks like a box.

    Args:
        workspace: where features are kept.
        model: in evaluation mode.
        pixels: the reader of tiles.
        archive: the tiles to search.
        batch_size: tiles a forward pass.
        patch_size: side of patches.
        grids: where features are kept; None for the workspace's place for those of this model.
    """

    def __init__(
        self,
        workspace: Workspace,
        model: Detector,
        pixels: TilePixels,
        archive: Sequence[TileRecord],
        *,
        batch_size: int = 8,
        patch_size: int = 64,
        grids: TileGrids | HeldGrids | None = None,
    ) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._pixels, self._archive = pixels, list(archive)
        self._size, self._stride = model.config.image_size, grid_stride(model)
        self._batch_size, self._patch_size = batch_size, patch_size
        self._digests = [tile.content_hash for tile in archive]
        self._grids = TileGrids(grids_directory(workspace, model)) if grids is None else grids
        self.fresh = 0
        """tiles whose features were not kept when they were last asked for"""
        self._described: list[int] = []
        self._centre = torch.zeros(0)

    def describe(self, progress: Progress = silent) -> int:
        """Compute the features that are not kept yet, and return of how many tiles; a call that was stopped goes on at the last shard."""
        for _ in self.describing(progress):
            pass
        return self.fresh

    def describing(self, progress: Progress = silent) -> Iterator[int]:
        """Do what :meth:`describe` does, and give in between how many tiles were computed: 0 first, then ever more."""
        by_digest = {tile.content_hash: tile for tile in self._archive}
        fresh = [by_digest[digest] for digest in self._grids.missing(self._digests)]
        self.fresh = len(fresh)
        for start in range(0, len(fresh), SHARD):
            yield start
            self._describe_shard(fresh[start : start + SHARD], progress, start, len(fresh))
        self._survey()

    def _survey(self) -> None:
        """Learn which tiles are described, and what they show on average."""
        missing = set(self._grids.missing(self._digests))
        self._described = [row for row, digest in enumerate(self._digests) if digest not in missing]
        if self._described:
            self._centre = torch.from_numpy(self._grids.centre([self._digests[row] for row in self._described]))

    def query(self, tile: TileRecord, box: tuple[float, float, float, float]) -> Query:
        """Describe the box of a tile; :meth:`describe` comes first."""
        image = self._source([tile]).image(0)
        corners = torch.tensor(box)
        patch = cut_patches(image, corners[None], size=self._patch_size)[0]
        appearance = describe_patches(self._model, _orientations(patch)).mean(0)
        grid = torch.from_numpy(describe_grid(self._model, self._ready(image[None])))
        on_grid = mean_on_grid(grid, torch.cat([torch.zeros(1), corners])[None], self._centre, stride=self._stride)
        return Query(tile, corners, patch, appearance, on_grid[0])

    def find(
        self, query: Query, *, hits: int, candidates: int, refined: int, one_shot_tiles: int = 0, progress: Progress = silent
    ) -> list[FoundHit]:
        """The look-alikes, the best first: the last of :meth:`rankings`, whose arguments it takes."""
        told = {"hits": hits, "candidates": candidates, "refined": refined, "one_shot_tiles": one_shot_tiles}
        found: list[FoundHit] = []
        for found in self.rankings(query, **told, progress=progress):  # noqa: B007 - the last one is wanted
            pass
        return found

    def rankings(
        self, query: Query, *, hits: int, candidates: int, refined: int, one_shot_tiles: int = 0, progress: Progress = silent
    ) -> Iterator[list[FoundHit]]:
        """The look-alikes, the best first, again and again: each time more was looked at closely.

        Args:
            query: from :meth:`query`.
            hits: how many at most.
            candidates: windows to look at closely.
            refined: of the best boxes, how many are moved about for a better fit.
            one_shot_tiles: on how many tiles the model is asked for boxes too; where it was taught to be asked, its scores count.
            progress: told after every tile.
        """
        windows = self.windows(query, candidates, progress)
        scored = _part(windows, 0, 0)
        for start, end in _parts(len(windows.boxes)):
            scored = _joined(scored, self.judged(query, _part(windows, start, end), progress))
            yield self._hits(query, scored, hits)
        if refined:
            best = self.distinct(query, scored, refined)
            scored = _joined(scored, self.judged(query, self._nudged(best), progress))
            yield self._hits(query, scored, hits)
        promising = list(dict.fromkeys(windows.tile_index.tolist()))[:one_shot_tiles]
        for start in range(0, len(promising), ASKED_AT_ONCE):
            scored = _joined(scored, self.asked(query, promising[start : start + ASKED_AT_ONCE], progress))
            yield self._hits(query, scored, hits)

    def glimpse(self, tile: TileRecord, box: tuple[float, float, float, float], hits: int) -> list[FoundHit]:
        """The look-alikes among the tiles that are described by now, none moved for a better fit; none where no tile is."""
        self._survey()
        if not self._described:
            return []
        query = self.query(tile, box)
        return self._hits(query, self.judged(query, self.windows(query, FIRST_WINDOWS)), hits)

    def _hits(self, query: Query, scored: Windows, count: int) -> list[FoundHit]:
        best = self.distinct(query, scored, count)
        return [
            FoundHit(self._archive[tile].id, (x1, y1, x2, y2), score)
            for tile, (x1, y1, x2, y2), score in zip(best.tile_index.tolist(), best.boxes.tolist(), best.likeness.tolist(), strict=True)
        ]

    def windows(self, query: Query, count: int, progress: Progress = silent) -> Windows:
        """The windows that stand out as like the query on the tiles' feature maps."""
        width, height = (query.box[2:] - query.box[:2]).tolist()
        extents = torch.tensor([(tile.window.width, tile.window.height) for tile in self._archive])
        found: list[Windows] = []
        done = 0
        rows = np.asarray(self._described)
        progress(0, len(rows), "compare tiles")
        for indices, grids in self._grids.blocks([self._digests[row] for row in rows]):
            index = torch.from_numpy(rows[indices])
            maps = similarity_maps(torch.from_numpy(grids), query.on_grid, self._centre)
            best = like_windows(maps, extents[index], (width, height), stride=self._stride, count=count)
            found = [best_windows(_joined(*found, best._replace(tile_index=index[best.tile_index])), count)]
            done += len(indices)
            progress(done, len(rows), "compare tiles")
        return self._clipped(found[0])

    def proposals(self, query: Query, rows: Sequence[int], progress: Progress = silent, *, most: int = ONE_SHOT_BOXES) -> Windows:
        """Boxes that the model finds on some tiles (rows of the archive), ``most`` a tile, with their matched scores."""
        feature = patch_feature(self._model, query.patch[None].to(self._device))[0]
        source = self._source([self._archive[row] for row in rows])
        parts = []
        for index, row in track(enumerate(rows), len(rows), "ask the model", progress):
            image = _image(source, index)
            if image is None:
                continue
            found = detect_like(self._model, self._ready(image[None]), feature)
            boxes, matched = found.boxes[0].cpu(), found.matched[0].cpu()
            kept = batched_nms(boxes, matched, torch.zeros_like(matched), DUPLICATE_IOU)[:most]
            parts.append(Windows(torch.full((len(kept),), row), boxes[kept], matched[kept]))
        return self._clipped(_joined(Windows(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4), torch.zeros(0)), *parts))

    def asked(self, query: Query, rows: Sequence[int], progress: Progress = silent) -> Windows:
        """The model's boxes on some tiles with their likeness on a close look, to which the scores of one taught to be asked are added."""
        proposed = self.proposals(query, rows, progress)
        judged = self.judged(query, proposed, progress)
        return judged._replace(likeness=judged.likeness + TRUST * proposed.likeness) if self._model.config.one_shot else judged

    def judged(self, query: Query, windows: Windows, progress: Progress = silent) -> Windows:
        """The same boxes with their likeness on a close look, at most 1.

        It is the mean of three cosines (two levels of the box cut out, and the grid), less what differs in size; -1 and less on a tile that
        cannot be read any more.
        """
        rows = sorted(set(windows.tile_index.tolist()))
        source = self._source([self._archive[row] for row in rows])
        likeness = torch.zeros(len(windows.boxes))
        waiting: list[tuple[Tensor, Tensor]] = []
        for index, row in track(enumerate(rows), len(rows), "look closely", progress):
            members = (windows.tile_index == row).nonzero()[:, 0]
            boxes = windows.boxes[members]
            grid = torch.from_numpy(self._grids.of(self._digests[row]))[None]
            on_grid = mean_on_grid(grid, torch.cat([torch.zeros(len(boxes), 1), boxes], 1), self._centre, stride=self._stride)
            likeness[members] = on_grid @ query.on_grid / 3
            image = _image(source, index)
            if image is None:
                likeness[members] = -1.0
            else:
                waiting.append((members, cut_patches(image, boxes, size=self._patch_size)))
            if waiting and (sum(len(each) for each, _ in waiting) >= 64 or index == len(rows) - 1):
                members, patches = (torch.cat(parts) for parts in zip(*waiting, strict=True))
                likeness[members] += 2 / 3 * (describe_patches(self._model, patches) @ query.appearance)
                waiting.clear()
        return windows._replace(likeness=likeness - SIZE_PRIOR * size_difference(windows.boxes, query.box))

    def distinct(self, query: Query, windows: Windows, count: int) -> Windows:
        """The best, no object twice: neither on overlapping tiles of a scene nor the query itself."""
        order = windows.likeness.argsort(descending=True, stable=True)
        index = windows.tile_index[order]
        corners = torch.tensor([(tile.window.x, tile.window.y) for tile in self._archive])[index].repeat(1, 2)
        scenes = torch.tensor([tile.scene_id for tile in self._archive])[index]
        own = query.box + torch.tensor([query.tile.window.x, query.tile.window.y]).repeat(2)
        boxes = torch.cat([own[None], windows.boxes[order] + corners]).double()
        falling = torch.arange(len(boxes), 0, -1).double()
        kept = batched_nms(boxes, falling, torch.cat([torch.tensor([query.tile.scene_id]), scenes]), SAME_OBJECT_IOU)
        chosen = order[kept[kept > 0] - 1][:count]
        return Windows(*(part[chosen] for part in windows))

    def _nudged(self, windows: Windows) -> Windows:
        centres, sides = (windows.boxes[:, :2] + windows.boxes[:, 2:]) / 2, windows.boxes[:, 2:] - windows.boxes[:, :2]
        moved = []
        for x, y, scale in NUDGES:
            middle = centres + sides * torch.tensor([x, y])
            moved.append(torch.cat([middle - scale * sides / 2, middle + scale * sides / 2], 1))
        times = len(NUDGES)
        return self._clipped(Windows(windows.tile_index.repeat(times), torch.cat(moved), windows.likeness.repeat(times)))

    def _clipped(self, windows: Windows) -> Windows:
        """The windows cut at their tiles' edges, without those of which too little is left."""
        sides = torch.tensor([(tile.window.width, tile.window.height) for tile in self._archive])[windows.tile_index].repeat(1, 2)
        boxes = torch.minimum(windows.boxes.clamp(min=0), sides)
        solid = (boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE_PIXELS).all(1)
        return Windows(windows.tile_index[solid], boxes[solid], windows.likeness[solid])

    def _describe_shard(self, shard: Sequence[TileRecord], progress: Progress, before: int, total: int) -> None:
        source = self._source(shard)
        grids, means, digests = [], [], []
        for batch, pixels in read_batches(source, range(len(shard)), self._batch_size):
            progress(before + batch[0], total, "describe tiles")
            described = describe_grid(self._model, self._ready(pixels))
            for index, grid in zip(batch, described, strict=True):
                digests.append(shard[index].content_hash)
                window = shard[index].window
                rows, columns = -(-window.height // self._stride), -(-window.width // self._stride)
                means.append(grid[:, :rows, :columns].astype(np.float32).mean((1, 2)))
            grids.append(described)
        if digests:
            self._grids.add(digests, np.concatenate(grids), np.stack(means))
        progress(before + len(shard), total, "describe tiles")

    def _source(self, wanted: Sequence[TileRecord]) -> WorkspaceTiles:
        return WorkspaceTiles(self._pixels, wanted, {}, self._size, cache_bytes=0)

    def _ready(self, images: Tensor) -> Tensor:
        return images.to(self._device).float().div(255).contiguous(memory_format=torch.channels_last)


def grids_directory(workspace: Workspace, model: Detector) -> Path:
    """Where the features of tiles by the backbone of ``model`` are kept."""
    return workspace.predictions / f"{PREFIX}{_backbone_key(model)}"


def _image(source: WorkspaceTiles, index: int) -> Tensor | None:
    """The tile's pixels; None where they cannot be read."""
    try:
        return source.image(index)
    except UnreadableImage:
        return None


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what is looked at in one go: a little first, so that something shows."""
    edges = [0, *range(FIRST_WINDOWS, count, WINDOWS_AT_ONCE), count]
    yield from itertools.pairwise(sorted(set(edges)))


def _part(windows: Windows, start: int, end: int) -> Windows:
    return Windows(*(part[start:end] for part in windows))


def _joined(*parts: Windows) -> Windows:
    return Windows(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _orientations(patch: Tensor) -> Tensor:
    """The patch (3, s, s) in all eight: seen from above, an object may lie in any."""
    turned = [each.rot90(turns, (1, 2)) for each in (patch, patch.flip(2)) for turns in range(4)]
    return torch.stack(turned)


def _backbone_key(model: Detector) -> str:
    """Short hash of all that the features of a tile depend on, but for its pixels."""
    digest = hashlib.sha256(json.dumps([1, model.config.image_size, model.config.backbone, model.config.feature_levels]).encode())
    for name, tensor in sorted(model.backbone.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
