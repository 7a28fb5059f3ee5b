"""Random scenes for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.boxes import Boxes

Pairs = list[tuple[Boxes, Boxes]]


@pytest.fixture(scope="session")
def scene() -> Callable[..., Pairs]:
    """Make tiles with true boxes of all sizes and classes 0 to 2, and predictions that are shifted, missing, doubled or invented."""

    def make(seed: int, tiles: int, most: int) -> Pairs:
        generator = np.random.default_rng(seed)
        pairs = []
        for _ in range(tiles):
            count = int(generator.integers(0, most))
            corner, side = generator.uniform(0, 200, (count, 2)), np.exp(generator.uniform(2, 5, (count, 2)))
            true = Boxes(np.hstack([corner, corner + side]), generator.integers(0, 3, count))
            source = generator.integers(0, max(count, 1), min(2 * count, 3 * most))
            noise = generator.normal(0, 0.08, (len(source), 4)) * np.tile(side[source], (1, 2)) if count else np.zeros((0, 4))
            xyxy = true.xyxy[source] + noise
            solid = (xyxy[:, 2:] > xyxy[:, :2]).all(1)
            labels = np.where(generator.random(len(source)) < 0.8, true.labels[source], generator.integers(0, 4, len(source)))
            predicted = Boxes(xyxy[solid], labels[solid], np.round(generator.random(int(solid.sum())), 2))
            pairs.append((true, predicted))
        return pairs

    return make
