"""Feature grids on disk: each tile once, found by its content."""

import os

import numpy as np
import pytest

from engine.catalog.tile_grids import TileGrids, forget_older


def grids(*values):
    """One grid of 3 channels and 2 × 2 cells a value."""
    return np.stack([np.full((3, 2, 2), value, dtype=np.float16) for value in values])


def means(*values):
    return np.stack([np.full(3, value, dtype=np.float32) for value in values])


@pytest.fixture
def kept(tmp_path):
    store = TileGrids(tmp_path / "grids")
    store.add(["a", "b"], grids(1, 2), means(1, 2))
    store.add(["c"], grids(3), means(3))
    return store


def test_what_is_missing_is_named_once_in_order(kept):
    assert kept.missing(["d", "a", "e", "d", "c"]) == ["d", "e"]


@pytest.mark.parametrize("wanted", [["a", "b", "c"], ["c", "a"], ["b", "b", "c"], ["b"]])
def test_blocks_give_every_tile_its_own_grid(kept, wanted):
    found = {int(index): float(grid[0, 0, 0]) for indices, block in kept.blocks(wanted) for index, grid in zip(indices, block, strict=True)}
    assert found == {index: {"a": 1.0, "b": 2.0, "c": 3.0}[name] for index, name in enumerate(wanted)}


def test_another_process_finds_what_was_kept(kept, tmp_path):
    again = TileGrids(tmp_path / "grids")
    assert again.missing(["a", "b", "c"]) == []
    assert again.of("c").tolist() == grids(3)[0].tolist()


def test_the_centre_is_the_mean_of_the_tiles_asked_for(kept):
    assert kept.centre(["a", "c"]).tolist() == [2.0, 2.0, 2.0]


def test_what_a_crash_left_is_swept_and_never_read(kept, tmp_path):
    (tmp_path / "grids" / ".tmp-0-000002").mkdir()
    again = TileGrids(tmp_path / "grids")
    again.add(["d"], grids(4), means(4))
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == ["000000", "000001", "000002"]


@pytest.mark.parametrize("content", ["[1", '["c", "d"]', "[]"])
def test_a_shard_that_does_not_fit_together_is_removed(kept, tmp_path, content):
    (tmp_path / "grids" / "000001" / "tiles.json").write_text(content)
    again = TileGrids(tmp_path / "grids")
    assert again.missing(["a", "b", "c"]) == ["c"]
    assert not (tmp_path / "grids" / "000001").exists()


def test_grids_of_backbones_that_were_not_searched_for_long_are_removed(tmp_path):
    folders = [tmp_path / f"_grids-{name}" for name in "abcde"]
    for second, folder in enumerate(folders):
        TileGrids(folder).add(["a"], grids(1), means(1))
        os.utime(folder, (second, second))
    (tmp_path / "pretrain-1-all").mkdir()
    assert forget_older(folders[0]) == folders[1:3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_grids-a", "_grids-d", "_grids-e", "pretrain-1-all"]
    assert forget_older(folders[0]) == []
