"""Windows found by place: none is missed, and few are looked at."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.selection import ground
from engine.selection.candidates import overlapping
from engine.selection.ground import Ground


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 60), share=st.sampled_from([0.0, 0.3, 0.5, 1.0]), grid=st.booleans())
def test_it_finds_what_a_comparison_with_all_finds(seed: int, count: int, share: float, grid: bool) -> None:
    generator = np.random.default_rng(seed)
    corner = generator.integers(-4, 5, (count, 2)) * 16.0 if grid else generator.uniform(-60, 60, (count, 2))
    sides = np.full((count, 2), 32.0) if grid else generator.uniform(1, 90, (count, 2))
    windows, scenes = np.hstack([corner, corner + sides]), generator.integers(-1, 2, count)
    index = Ground(scenes, windows)
    for scene in (-1, 0, 1, 7):
        for window in (*windows, np.array([-200.0, -200, 200, 200]), np.array([3.0, 3, 4, 4])):
            expected = np.flatnonzero((scenes == scene) & overlapping(windows, window, share))
            assert index.within(scene, window, share).tolist() == expected.tolist()


@pytest.mark.parametrize("along", [0, 1], ids=["wide", "high"])
def test_a_large_scene_is_not_searched(monkeypatch: pytest.MonkeyPatch, along: int) -> None:
    looked_at = []

    def counted(windows: np.ndarray, window: np.ndarray, share: float) -> np.ndarray:
        looked_at.append(len(windows))
        return overlapping(windows, window, share)

    monkeypatch.setattr(ground, "overlapping", counted)
    number = np.arange(40_000)
    place = np.stack([number // 20, number % 20] if along == 0 else [number % 20, number // 20], axis=1)
    windows = np.hstack([place * 100.0, place * 100.0 + 200])
    index = Ground(np.zeros(40_000, dtype=np.int64), windows)
    for row in range(0, 40_000, 4000):
        assert row in index.within(0, windows[row], 0.4)
    assert sum(looked_at) <= 10 * 50
