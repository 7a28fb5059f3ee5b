"""Windows of scenes, found by where they lie."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.selection.candidates import overlapping

__all__ = ["Ground"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Ground:
    """An index of windows: in bands as high as the highest of them, by their left side, so that few are compared in a scene of a million.

    Args:
        scene_ids: (N,) the scene of each window.
        windows_scene: (N, 4) xyxy scene pixels.
    """

    def __init__(self, scene_ids: Integers, windows_scene: Floats) -> None:
        self._width, self._height = (windows_scene[:, 2:] - windows_scene[:, :2]).max(axis=0, initial=1e-9).tolist()
        bands = np.floor(windows_scene[:, 1] / self._height).astype(np.int64)
        self._order: Integers = np.lexsort((windows_scene[:, 0], bands, scene_ids))
        self._windows, self._scenes, self._bands = windows_scene[self._order], scene_ids[self._order], bands[self._order]

    def within(self, scene: int, window: Floats, share: float) -> Integers:
        """Rising rows of the windows of ``scene`` of which more than ``share`` of the area lies in ``window`` (4,)."""
        first, end = np.searchsorted(self._scenes, [scene, scene + 1])
        bands = self._bands[first:end]
        if not len(bands):
            return self._order[:0]
        reach = np.floor(np.asarray([window[1] - self._height, window[3]]) / self._height)
        lowest, highest = np.clip(reach, bands[0], bands[-1]).astype(np.int64)
        edges = first + np.searchsorted(bands, np.arange(lowest, highest + 2))
        found = []
        for start, stop in pairwise(edges.tolist()):
            near = slice(*(start + np.searchsorted(self._windows[start:stop, 0], [window[0] - self._width, window[2]])))
            found.append(self._order[near][overlapping(self._windows[near], window, share)])
        rows: Integers = np.sort(np.concatenate(found))
        return rows
