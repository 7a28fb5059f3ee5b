"""Which ground is for training, for development and for the test: pure functions of a scene's content hash and size.

A workspace of many scenes gives each scene one split by its hash (mode ``scene``). A workspace of few scenes carves each scene into
regions (mode ``block``): one strip along a side is held out and cut once across into test and dev, the rest is train. So a scene has
two short borders, which lose the fewest tiles, and both shares are met within one scene. A scene of more than ``block_size`` pixels is
carved block by block, so that its held-out ground is spread over it. A scene too small to carve has one split by its hash.

A tile has the split of the regions that it touches, and ``none`` where they differ: a train tile cannot share a pixel with a dev or
test tile. Regions depend on nothing but the scene and the rule stored at the first ingest, so no later ingest moves ground.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from engine.config import StageConfig
from engine.records import Window

__all__ = ["NO_SPLIT", "SPLITS", "Region", "SplitConfig", "decide", "regions", "split_of_scene", "split_of_tile"]

SPLITS = ("train", "dev", "test")
NO_SPLIT = "none"
MINIMUM_COLUMNS = 4

Region = tuple[Window, str]


class SplitConfig(StageConfig):
    """How ground is shared out; stored with the workspace at its first ingest."""

    dev_share: float = Field(default=0.1, ge=0, le=0.5)
    """share of the ground for early stopping, thresholds and tuning"""
    test_share: float = Field(default=0.2, ge=0, le=0.9)
    """share of the ground that ``evaluate`` alone reads"""
    mode: Literal["auto", "scene", "block"] = "auto"
    """one split a scene, or regions inside a scene; ``auto`` decides by ``minimum_scenes`` at the first ingest"""
    minimum_scenes: int = Field(default=20, ge=1)
    """from this many scenes in the first ingest on, ``auto`` means one split a scene"""
    block_size: int = Field(default=4096, ge=64)
    """side in pixels of the blocks that are carved one by one; never less than four tiles"""
    tile: int | None = Field(default=None, ge=1)
    """tile side in pixels to which borders are aligned; filled in at the first ingest"""
    overlap: int = Field(default=0, ge=0)
    """overlap of tiles in pixels; filled in at the first ingest"""
    salt: str = ""
    """another salt shares the same scenes out differently"""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.dev_share + self.test_share >= 1:
            raise ValueError("dev_share and test_share together must stay below 1")
        if self.tile is not None and self.overlap >= self.tile:
            raise ValueError("overlap must stay below tile")
        return self


def decide(config: SplitConfig, *, scenes: int, tile: int, overlap: int) -> SplitConfig:
    """The rule that is stored: ``auto`` settled by the number of scenes, borders aligned to the tiling in pixels."""
    mode = config.mode
    if mode == "auto":
        mode = "scene" if scenes >= config.minimum_scenes else "block"
    return SplitConfig.from_mapping(config.model_dump() | {"mode": mode, "tile": tile, "overlap": overlap})


def split_of_scene(content_hash: str, config: SplitConfig) -> str:
    """The split of a scene as a whole: ``train``, ``dev`` or ``test``, by its hash alone."""
    drawn = _fraction(content_hash, config.salt, "scene")
    if drawn < config.test_share:
        return "test"
    return "dev" if drawn < config.test_share + config.dev_share else "train"


def split_of_tile(window: Window, ground: Iterable[Region]) -> str:
    """The one split of all regions that ``window`` touches; ``none`` where they differ, or where it touches none."""
    touched = {split for region, split in ground if _touch(window, region)}
    return touched.pop() if len(touched) == 1 else NO_SPLIT


def regions(content_hash: str, width: int, height: int, config: SplitConfig) -> list[Region]:
    """The regions of a scene of ``width`` × ``height`` pixels: disjoint rectangles that cover it, each with its split.

    Args:
        content_hash: the scene's identity.
        width: pixels.
        height: pixels.
        config: a decided rule, see :func:`decide`.
    """
    whole = [(Window(0, 0, width, height), split_of_scene(content_hash, config))]
    if config.mode == "scene":
        return whole
    if config.mode == "auto" or config.tile is None:
        raise ValueError("the rule is not decided yet")
    if len(_starts(max(width, height), config)) < MINIMUM_COLUMNS:
        return whole
    if not config.dev_share + config.test_share:
        return [(Window(0, 0, width, height), "train")]
    columns, rows = _edges(width, config), _edges(height, config)
    return [
        region
        for i, (left, right) in enumerate(pairwise(columns))
        for j, (top, bottom) in enumerate(pairwise(rows))
        for region in _carve(Window(left, top, right - left, bottom - top), f"{content_hash}/{i}/{j}", config)
    ]


def _carve(block: Window, key: str, config: SplitConfig) -> list[Region]:
    held_share = config.dev_share + config.test_share
    across_x = block.width >= block.height
    cut = _cut(block.width if across_x else block.height, held_share, key + "/held", config)
    if cut is None:
        return [(block, split_of_scene(key, config))]
    held, train = _divide(block, *cut, along_x=across_x)
    test_share = config.test_share / held_share
    cut = _cut(block.height if across_x else block.width, test_share, key + "/test", config) if 0 < test_share < 1 else None
    if cut is None:
        return [(train, "train"), (held, "test" if _fraction(key, config.salt, "strip") < test_share else "dev")]
    test, dev = _divide(held, *cut, along_x=not across_x)
    return [(train, "train"), (test, "test"), (dev, "dev")]


def _cut(length: int, share: float, key: str, config: SplitConfig) -> tuple[int, bool] | None:
    """Where to cut ``length`` so that about ``share`` of its tiles lie on the first or last side, and on which; None if it is too short."""
    assert config.tile is not None
    starts = _starts(length, config)
    first = _fraction(key, config.salt, "side") < 0.5
    best: tuple[float, int] | None = None
    for position in [start + config.tile for start in starts[:-1]] if first else starts[1:]:
        before = sum(start + config.tile <= position for start in starts)
        after = sum(start >= position for start in starts)
        taken, left = (before, after) if first else (after, before)
        if taken and left:
            cost = (len(starts) - before - after) / len(starts) + abs(taken / (taken + left) - share)
            best = min(best or (cost, position), (cost, position))
    return None if best is None else (best[1], first)


def _divide(window: Window, position: int, first: bool, *, along_x: bool) -> tuple[Window, Window]:
    if along_x:
        parts = (
            Window(window.x, window.y, position, window.height),
            Window(window.x + position, window.y, window.width - position, window.height),
        )
    else:
        parts = (
            Window(window.x, window.y, window.width, position),
            Window(window.x, window.y + position, window.width, window.height - position),
        )
    return parts if first else (parts[1], parts[0])


def _starts(length: int, config: SplitConfig) -> Sequence[int]:
    """Where tiles start along ``length``. Frozen here, apart from the tiling of the day: it decides where ground is cut for ever."""
    assert config.tile is not None
    stride = config.tile - config.overlap
    count = max(1, math.ceil((length - config.tile) / stride) + 1)
    return [max(0, min(k * stride, length - config.tile)) for k in range(count)]


def _edges(length: int, config: SplitConfig) -> list[int]:
    assert config.tile is not None
    stride = config.tile - config.overlap
    blocks = max(1, round(length / max(config.block_size, MINIMUM_COLUMNS * config.tile)))
    return [0, *(round(i * length / blocks / stride) * stride for i in range(1, blocks)), length]


def _touch(a: Window, b: Window) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


def _fraction(*parts: str) -> float:
    """A number in [0, 1) that depends on ``parts`` alone."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:6]) / 2**48
