"""Feature grids of tiles, found by the tile's content: kept on disk as memory maps, or held for the few tiles that somebody looks at."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.files import atomic_directory, sweep_temporary

__all__ = ["PREFIX", "HeldGrids", "TileGrids", "forget_older", "stored_centre"]

PREFIX = "_grids-"
"""How the names of folders of grids begin."""
BACKBONES_KEPT = 3

GRIDS, MEANS, TILES = "grids.npy", "means.npy", "tiles.json"
AT_ONCE = 512

Half = NDArray[np.float16]
Floats = NDArray[np.float32]


class TileGrids:
    """A folder of shards, each written as a whole; a shard that cannot be read is removed, for what it held can be computed again.

    Args:
        directory: of one way of computing; it is made where it is missing.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        sweep_temporary(directory)
        self._directory = directory
        self._shards: dict[str, Half] = {}
        self._means: dict[str, Floats] = {}
        self._place: dict[str, tuple[str, int]] = {}
        for path in sorted(path for path in directory.iterdir() if path.is_dir()):
            try:
                self._read(path)
            except (OSError, ValueError):
                shutil.rmtree(path)

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of ``digests`` (content hashes) that have no grid yet, each once, in their order."""
        return [digest for digest in dict.fromkeys(digests) if digest not in self._place]

    def add(self, digests: Sequence[str], grids: Half, means: Floats) -> None:
        """Keep the grids of some tiles as a shard.

        Args:
            digests: content hashes (N,) of the tiles.
            grids: (N, C, H, W).
            means: (N, C) of the cells that lie in the tile.
        """
        number = 1 + max((int(name) for name in self._shards), default=-1)
        path = self._directory / f"{number:06d}"
        with atomic_directory(path) as folder:
            np.save(folder / GRIDS, grids)
            np.save(folder / MEANS, means)
            (folder / TILES).write_text(json.dumps(list(digests)))
        self._read(path)

    def blocks(self, digests: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Half]]:
        """Yield (indices into ``digests``, their grids) until every one of ``digests`` was given once, shard by shard."""
        by_shard: dict[str, list[tuple[int, int]]] = {}
        for index, digest in enumerate(digests):
            shard, row = self._place[digest]
            by_shard.setdefault(shard, []).append((row, index))
        for shard, members in by_shard.items():
            for start in range(0, len(members), AT_ONCE):
                rows, indices = np.asarray(sorted(members)[start : start + AT_ONCE], dtype=np.int64).T
                yield indices, self._shards[shard][rows]

    def of(self, digest: str) -> Half:
        """The grid (C, H, W) of one tile."""
        shard, row = self._place[digest]
        return np.array(self._shards[shard][row])

    def centre(self, digests: Sequence[str]) -> Floats:
        """Mean (C,) over the cells of these tiles, each tile counting alike."""
        rows = [self._means[shard][row] for shard, row in (self._place[digest] for digest in digests)]
        mean: Floats = np.asarray(np.mean(np.asarray(rows, dtype=np.float64), axis=0), dtype=np.float32)
        return mean

    def _read(self, path: Path) -> None:
        digests = json.loads((path / TILES).read_text())
        grids, means = np.load(path / GRIDS, mmap_mode="r"), np.load(path / MEANS)
        if not (len(digests) == len(grids) == len(means) and grids.shape[1] == means.shape[1]):
            raise ValueError(f"{path.name} holds {len(digests)} tiles, {grids.shape} grids and {means.shape} means")
        self._shards[path.name], self._means[path.name] = grids, means
        self._place |= {digest: (path.name, row) for row, digest in enumerate(digests)}


class HeldGrids:
    """The grids of a few tiles, in memory alone.

    Args:
        centre: (C,) the mean of an archive; None for that of the tiles that are held.
    """

    def __init__(self, centre: Floats | None = None) -> None:
        self._centre = centre
        self._grids: dict[str, Half] = {}
        self._means: dict[str, Floats] = {}

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Those of ``digests`` that have no grid yet, each once, in their order."""
        return [digest for digest in dict.fromkeys(digests) if digest not in self._grids]

    def add(self, digests: Sequence[str], grids: Half, means: Floats) -> None:
        """Hold the grids (N, C, H, W) of some tiles, with the means (N, C) of the cells that lie in each."""
        self._grids |= dict(zip(digests, grids, strict=True))
        self._means |= dict(zip(digests, means, strict=True))

    def blocks(self, digests: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Half]]:
        """Yield (indices into ``digests``, their grids), once."""
        yield np.arange(len(digests)), np.stack([self._grids[digest] for digest in digests])

    def of(self, digest: str) -> Half:
        """The grid (C, H, W) of one tile."""
        return self._grids[digest]

    def centre(self, digests: Sequence[str]) -> Floats:
        """Mean (C,) of the archive, or of these tiles."""
        mean: Floats = np.mean([self._means[digest] for digest in digests], axis=0, dtype=np.float32)
        return mean if self._centre is None else self._centre


def stored_centre(directory: Path) -> Floats | None:
    """Mean (C,) over the tiles whose grids are kept in ``directory``; None where none are. Reads only, while another process writes too."""
    total, count = 0.0, 0
    for path in sorted(directory.glob(f"[0-9]*/{MEANS}")):
        try:
            means = np.load(path)
        except (OSError, ValueError):
            continue
        total, count = total + means.sum(0, dtype=np.float64), count + len(means)
    return np.asarray(total / count, dtype=np.float32) if count else None


def forget_older(directory: Path) -> list[Path]:
    """Remove the folders of grids beside ``directory`` but for it and those that were searched last: each backbone has its own.

    Returns:
        What was removed.
    """
    os.utime(directory)
    others = sorted((path for path in directory.parent.glob(f"{PREFIX}*") if path != directory), key=lambda path: path.stat().st_mtime_ns)
    older = others[: max(0, len(others) - BACKBONES_KEPT + 1)]
    for path in older:
        shutil.rmtree(path, ignore_errors=True)
    return older
