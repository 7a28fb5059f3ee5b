"""What is chosen first: doubt, coverage, classes, ground paid for once, and a slice by chance."""

import dataclasses
import types

import numpy as np
import pytest

from engine.errors import BadInput
from engine.selection.candidates import Candidates, overlapping
from engine.selection.config import SelectionConfig
from engine.selection.detections import Detections, KnownObjects
from engine.selection.rank import rank
from engine.selection.strategies import STRATEGIES


@pytest.mark.parametrize("strategy", ["entropy-mean", "ppal"])
def test_the_doubtful_come_first(choosable: types.ModuleType, strategy: str) -> None:
    row = choosable.tiles_in_a_row([0.95, 0.55, 0.7, 0.99])
    ranking = rank(row, SelectionConfig(budget_seconds=60, strategy=strategy))
    order = [tile.tile_id for tile in ranking.tiles]
    assert order[0] in (1, 2)
    assert ranking.tiles[0].score > ranking.tiles[-1].score
    if strategy == "entropy-mean":
        assert order == [1, 2, 0, 3][: len(order)]


def test_a_tile_that_mostly_lies_in_a_chosen_one_comes_last(choosable: types.ModuleType) -> None:
    crowded = choosable.tiles_in_a_row([0.5, 0.5, 0.7, 0.8], step=10)
    ranking = rank(crowded, SelectionConfig(budget_seconds=10_000, strategy="entropy-mean"))
    order = [tile.tile_id for tile in ranking.tiles]
    assert abs(order[0] - order[1]) >= 2


def test_a_tile_that_mostly_lies_in_a_labelled_one_comes_last(choosable: types.ModuleType) -> None:
    reviewed = np.array([True, False, False])
    row = choosable.tiles_in_a_row([0.5, 0.5, 0.9], step=10, reviewed=reviewed)
    moved = dataclasses.replace(row, windows_scene=row.windows_scene + np.array([[0], [0], [200]]))
    ranking = rank(moved, SelectionConfig(budget_seconds=1000, strategy="entropy-mean"))
    assert [tile.tile_id for tile in ranking.tiles] == [2, 1]
    assert [tile.reasons["overlaps_labelled"] for tile in ranking.tiles] == [False, True]


def test_coverage_decides_first_and_doubt_later(choosable: types.ModuleType) -> None:
    far_and_sure = np.array([[0.0, 0], [0, 0.1], [9, 9]])
    doubts, reviewed = [0.5, 0.5, 0.99], np.array([True, False, False])
    alone = {"balance_share": 0.0, "audit_share": 0.0, "budget_seconds": 1e4, "duplicate_similarity": 1.0}
    early = choosable.tiles_in_a_row(doubts, embeddings=far_and_sure, known=choosable.known_objects([0] * 5), reviewed=reviewed)
    assert rank(early, SelectionConfig(**alone)).tiles[0].tile_id == 2
    late = dataclasses.replace(early, known=choosable.known_objects([0] * 500))
    assert rank(late, SelectionConfig(uncertainty_share=1.0, **alone)).tiles[0].tile_id == 1


def three_classes(choosable: types.ModuleType, **kwargs: object) -> Candidates:
    """Five tiles that show one object each: three cars, a boat and a crane; ten cars and a crane are known, on the first tile."""
    row = choosable.tiles_in_a_row([0.5] * 5, reviewed=np.array([True, False, False, False, False]))
    scores = np.full((5, 3), 0.01)
    scores[[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]] = 0.9
    known = KnownObjects(np.zeros(11, dtype=int), np.tile([0.0, 0, 9, 9], (11, 1)), np.array([0] * 10 + [2]))
    seen = Detections(np.arange(5), np.tile([0.0, 0, 9, 9], (5, 1)), scores)
    return dataclasses.replace(row, detections=seen, known=known, class_names=("car", "boat", "crane"), **kwargs)


def test_a_class_of_which_little_is_known_comes_first(choosable: types.ModuleType) -> None:
    config = SelectionConfig(budget_seconds=1e4, audit_share=0.0)
    ranking = rank(three_classes(choosable), config)
    assert [tile.tile_id for tile in ranking.tiles[:2]] == [3, 4]
    assert ranking.tiles[0].reasons["classes"] == {"boat": 0.9}
    assert "1 × boat" in ranking.tiles[0].why


def test_a_wanted_class_comes_before_one_of_which_less_is_known(choosable: types.ModuleType) -> None:
    config = SelectionConfig(budget_seconds=1e4, audit_share=0.0, wanted_classes=("crane",), wanted_weight=10.0)
    assert rank(three_classes(choosable), config).tiles[0].tile_id == 4
    with pytest.raises(BadInput, match="the wanted class 'ship'"):
        rank(three_classes(choosable), SelectionConfig(wanted_classes=("ship",)))


def test_empty_tiles_and_single_scenes_get_their_share_and_no_more(choosable: types.ModuleType) -> None:
    doubt = np.r_[np.full(30, 0.5), np.zeros(30)]
    points = np.random.default_rng(0).normal(size=(60, 8))
    pool = dataclasses.replace(choosable.many_tiles(60, doubt), embeddings=points, embedded=None)
    free = SelectionConfig(budget_seconds=200, audit_share=0.0, scene_share=1.0, balance_share=0.0, uncertainty_share=0.0)
    shares = []
    for empty_share in (0.1, 1.0, 0.0):
        tiles = rank(pool, free.model_copy(update={"empty_share": empty_share})).tiles
        shares.append(sum(tile.estimated_seconds for tile in tiles if not tile.reasons["objects_seen"]) / 200)
    assert shares[2] == 0 < shares[0] <= 0.16 < shares[1]
    two_scenes = choosable.many_tiles(60, np.r_[np.full(20, 0.5), np.full(40, 0.95)])
    by_scene = dataclasses.replace(two_scenes, scene_ids=np.r_[np.zeros(20), np.ones(40)])
    counts = []
    for scene_share in (0.25, 1.0):
        tiles = rank(by_scene, free.model_copy(update={"scene_share": scene_share, "uncertainty_share": 1.0})).tiles
        counts.append(sum(tile.reasons["scene"] == 0 for tile in tiles) / len(tiles))
    assert counts[0] < 0.8 < counts[1]


def crowded_scenes(scenes: int, *, labelled: int = 0) -> Candidates:
    """Scenes of 14 × 14 tiles of 256 px, 102 px apart; half of them stand in pairs that look alike, a third are empty."""
    generator = np.random.default_rng(0)
    number = np.arange(196)
    corner = np.stack([number % 14, number // 14], axis=1) * 102.0
    count = 196 * scenes
    tile = generator.integers(0, 2 * count // 3, 2 * count)
    box = generator.random((2 * count, 2)) * 200
    look = generator.normal(size=(count, 16))
    look[1 : count // 2 : 2] = look[0 : count // 2 : 2] + 1e-4
    mixed = generator.permutation(count)
    return Candidates(
        tile_ids=np.arange(count),
        scene_ids=np.repeat(np.arange(scenes), 196),
        windows_scene=np.tile(np.hstack([corner, corner + 256]), (scenes, 1)),
        splits=np.full(count, "train"),
        reviewed=np.isin(number, np.arange(labelled) * 45)[np.arange(count) % 196],
        embeddings=look[mixed],
        detections=Detections(mixed[tile], np.hstack([box, box + 20]), generator.random((2 * count, 3)) ** 2),
        known=KnownObjects(np.zeros(0, dtype=int), np.zeros((0, 4)), np.zeros(0, dtype=int)),
        class_names=("a", "b", "c"),
    )


@pytest.mark.parametrize("scenes", [1, 3])
def test_ground_is_paid_for_once_and_duplicates_and_empty_tiles_wait_however_few_the_scenes(scenes: int) -> None:
    pool = crowded_scenes(scenes, labelled=3)
    ranking = rank(pool, SelectionConfig(budget_seconds=700, audit_share=0.0))
    rows = np.array([tile.tile_id for tile in ranking.tiles])
    windows, held = pool.windows_scene, np.concatenate([rows, np.flatnonzero(pool.labelled)])
    for row in rows:
        others = held[(held != row) & (pool.scene_ids[held] == pool.scene_ids[row])]
        assert not any(overlapping(windows[[row]], windows[other], 0.5)[0] for other in others)
    unit = pool.embeddings[rows] - pool.embeddings.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    assert (np.triu(unit @ unit.T, 1) < 0.98).all()
    empty = sum(tile.estimated_seconds for tile in ranking.tiles if sum(tile.reasons["expected_boxes"].values()) < 1)
    assert empty <= 0.1 * 700 + max(tile.estimated_seconds for tile in ranking.tiles)


def test_near_duplicates_wait(choosable: types.ModuleType) -> None:
    by_classes = SelectionConfig(budget_seconds=1e4, audit_share=0.0, balance_share=1.0, uncertainty_share=0.0)

    def order(points: list[list[float]]) -> list[int]:
        row = choosable.tiles_in_a_row([0.9, 0.9, 0.6, 0.5], embeddings=np.array(points))
        return [tile.tile_id for tile in rank(row, by_classes).tiles]

    alike, different = order([[1.0, 0], [1.001, 0], [0, 1], [-1, -1]]), order([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert abs(alike.index(0) - alike.index(1)) >= 2
    assert abs(different.index(0) - different.index(1)) == 1


@pytest.mark.parametrize("before", ["reviewed", "waiting"])
def test_what_looks_like_a_labelled_or_waiting_tile_waits(choosable: types.ModuleType, before: str) -> None:
    by_classes = SelectionConfig(budget_seconds=1e4, audit_share=0.0, balance_share=1.0, uncertainty_share=0.0)

    def last(look: list[float]) -> int:
        points = np.array([[1.0, 0], look, [0, 1], [-1, -1]])
        there = {before: np.arange(4) == 0, "known": choosable.known_objects([])}
        row = choosable.tiles_in_a_row([0.9, 0.9, 0.6, 0.5], embeddings=points, **there)
        return rank(row, by_classes).tiles[-1].tile_id

    assert last([1.001, 0.0]) == 1
    assert last([1.0, -1.0]) == 3


def test_waiting_tiles_are_not_chosen_and_count_as_chosen(choosable: types.ModuleType) -> None:
    pool = dataclasses.replace(choosable.world(3, 60), waiting=np.arange(60) % 3 == 0)
    waits = set(pool.tile_ids[pool.chosen_before].tolist())
    assert waits
    for strategy in STRATEGIES:
        ranking = rank(pool, SelectionConfig(budget_seconds=1e5, strategy=strategy))
        assert {tile.tile_id for tile in ranking.tiles} == set(pool.tile_ids[pool.selectable].tolist())
        assert not waits & {tile.reasons["nearest_labelled_tile"] for tile in ranking.tiles}


def test_a_class_that_waiting_tiles_should_show_is_wanted_less(choosable: types.ModuleType) -> None:
    config = SelectionConfig(budget_seconds=1e4, audit_share=0.0)
    assert rank(three_classes(choosable), config).tiles[0].reasons["classes"] == {"boat": 0.9}
    boats = three_classes(choosable)
    boats = dataclasses.replace(boats, detections=dataclasses.replace(boats.detections, class_scores=boats.detections.class_scores.copy()))
    boats.detections.class_scores[[1, 2]] = [0.01, 0.9, 0.01]
    waiting = dataclasses.replace(boats, waiting=np.isin(np.arange(5), [1, 2]))
    assert rank(boats, config).tiles[0].reasons["classes"] == {"boat": 0.9}
    assert rank(waiting, config).tiles[0].reasons["classes"] == {"crane": 0.9}


def test_the_ground_of_waiting_tiles_comes_last_and_centres_keep_away_from_them(choosable: types.ModuleType) -> None:
    waiting = np.array([True, False, False, False])
    crowded = choosable.tiles_in_a_row([0.5, 0.5, 0.7, 0.8], step=10, waiting=waiting)
    ranking = rank(crowded, SelectionConfig(budget_seconds=10_000, strategy="entropy-mean"))
    assert ranking.tiles[0].tile_id == 2, "of tile 1, the most doubtful, most lies in tile 0, which waits"
    points = np.array([[9.0, 0], [8, 1], [-9, 0], [-8, -1]])
    apart = choosable.tiles_in_a_row([0.5] * 4, embeddings=points, waiting=waiting)
    config = SelectionConfig(budget_seconds=60, strategy="k-center", tail_share=0.0)
    assert rank(apart, config).tiles[0].tile_id == 2


def test_a_scene_in_which_tiles_wait_has_had_its_share(choosable: types.ModuleType) -> None:
    pool = choosable.many_tiles(60, np.full(60, 0.5), np.repeat([0, 1, 2], 20))
    config = SelectionConfig(budget_seconds=200, audit_share=0.0, scene_share=0.4, balance_share=0.0, uncertainty_share=1.0)

    def shares(waiting: np.ndarray) -> np.ndarray:
        tiles = rank(dataclasses.replace(pool, waiting=waiting), config).tiles
        return np.bincount([tile.reasons["scene"] for tile in tiles], minlength=3) / len(tiles)

    alone, after = shares(np.zeros(60, dtype=bool)), shares(np.arange(60) < 15)
    assert alone[0] > 0.3
    assert after[0] == 0


def test_beyond_the_shortlist_strategies_by_embeddings_know_nothing_of_doubt(choosable: types.ModuleType) -> None:
    """What is doubtful, or of a rare class, is as often among the compared tiles as anything else."""
    generator = np.random.default_rng(0)
    doubtful = np.arange(600) % 6 == 0
    pool = choosable.many_tiles(600, np.where(doubtful, 0.5, 0.99))
    pool = dataclasses.replace(pool, embeddings=generator.normal(size=(600, 6)), embedded=None)
    for strategy in ("k-center", "typiclust", "prob-cover"):
        config = SelectionConfig(budget_seconds=1e5, strategy=strategy, shortlist_tiles=60)
        changed = dataclasses.replace(pool, detections=choosable.many_tiles(600, np.where(doubtful, 0.98, 0.99)).detections)
        before, after = ({tile.tile_id for tile in rank(each, config).tiles} for each in (pool, changed))
        assert before == after
        assert len(before) == 60


def test_a_share_of_the_budget_is_drawn_at_random_and_spread_over_the_batch(choosable: types.ModuleType) -> None:
    pool = choosable.many_tiles(200, np.round(np.random.default_rng(0).random(200), 2))
    audits, shares = [], []
    for seed in range(16):
        tiles = rank(pool, SelectionConfig(budget_seconds=600, audit_share=0.2, seed=seed)).tiles
        drawn = [place for place, tile in enumerate(tiles) if tile.reasons["audit"]]
        shares.append(sum(tiles[place].estimated_seconds for place in drawn) / 600)
        assert min(drawn) < len(tiles) / 2 < max(drawn)
        assert "hold the choice against" in tiles[drawn[0]].why
        audits.append({tiles[place].tile_id for place in drawn})
    assert len({len(audit) for audit in audits}) == 1, "a number of tiles, whatever they cost"
    assert np.mean(shares) == pytest.approx(0.2, abs=0.03)
    assert len(set.union(*audits)) > len(audits[0])


def unequal_tiles(choosable: types.ModuleType, numbers: np.ndarray, *, step: float = 100.0) -> Candidates:
    """Tiles in a row with so many sure objects each: one costs about 10 s and 5 s an object."""
    row = choosable.tiles_in_a_row([0.5] * len(numbers), step=step)
    index = np.repeat(np.arange(len(numbers)), numbers)
    corner = 10.0 * (np.arange(len(index)) - np.repeat(np.cumsum(numbers) - numbers, numbers))[:, None]
    boxes = corner + np.array([[0.0, 0, 9, 9]])
    return dataclasses.replace(row, detections=Detections(index, boxes, np.full((len(index), 1), 0.9)))


@pytest.mark.parametrize(("budget", "tiles"), [(250, 1), (1200, 2), (1800, 3)])
def test_what_a_tile_costs_has_no_say_in_whether_it_is_drawn(choosable: types.ModuleType, budget: float, tiles: int) -> None:
    numbers = np.r_[np.full(30, 1), np.full(30, 20)]
    pool = unequal_tiles(choosable, numbers)
    dear, drawn = 0, 0
    for seed in range(60):
        ranking = rank(pool, SelectionConfig(budget_seconds=budget, seed=seed))
        audit = [tile.tile_id for tile in ranking.tiles if tile.reasons["audit"]]
        assert len(audit) == tiles
        assert ranking.estimated_seconds <= budget
        dear, drawn = dear + int((numbers[audit] == 20).sum()), drawn + tiles
    assert abs(dear / drawn - 0.5) <= 3 * 0.5 / drawn**0.5


def test_a_small_budget_has_a_drawn_tile_too_and_one_for_a_single_tile_says_that_it_has_none(choosable: types.ModuleType) -> None:
    pool = unequal_tiles(choosable, np.full(40, 4))
    price = rank(pool, SelectionConfig(budget_seconds=1e3)).tiles[0].estimated_seconds
    said: list[str] = []

    def drawn(tiles: float) -> list[bool]:
        ranking = rank(pool, SelectionConfig(budget_seconds=tiles * price), progress=lambda done, total, message: said.append(message))
        return [tile.reasons["audit"] for tile in ranking.tiles]

    assert sum(drawn(2.01)) == 1
    assert not any("drawn at random" in message for message in said)
    assert drawn(1.5) == [False]
    assert any("no tile is drawn at random" in message for message in said)


def test_ground_is_drawn_once_and_a_tile_that_exceeds_the_budget_is_passed_over(choosable: types.ModuleType) -> None:
    close = unequal_tiles(choosable, np.full(60, 2), step=10)
    for seed in range(10):
        ranking = rank(close, SelectionConfig(budget_seconds=120, audit_share=0.5, seed=seed))
        places = sorted(tile.tile_id for tile in ranking.tiles if tile.reasons["audit"])
        assert len(places) > 2
        assert np.diff(places).min() >= 2
    heavy = unequal_tiles(choosable, np.r_[np.full(20, 1), np.full(5, 30)])
    for seed in range(20):
        ranking = rank(heavy, SelectionConfig(budget_seconds=60, audit_share=0.5, seed=seed))
        assert sum(tile.reasons["audit"] for tile in ranking.tiles) == 2
        assert ranking.estimated_seconds <= 60
