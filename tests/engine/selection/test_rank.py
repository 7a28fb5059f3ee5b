"""Ranking: within the budget, the same in any input order, and only tiles that may be chosen."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BadInput, Cancelled, NothingToDo
from engine.selection.candidates import Candidates, overlapping
from engine.selection.config import SelectionConfig, uncertainty_weight
from engine.selection.detections import Detections, KnownObjects
from engine.selection.pool import make_pool
from engine.selection.rank import rank
from engine.selection.strategies import STRATEGIES

SPLITS = np.array(["train", "train", "train", "dev", "test", "none"])
CLASSES = ("tree", "car")
DRAWN, FIXED = ("random", "tilehawk"), ("k-center", "entropy-mean", "ppal")


def known_objects(rows: list[int] | np.ndarray, classes: int = 1) -> KnownObjects:
    """An object on each of ``rows``, of the classes in turns."""
    count = len(rows)
    corner = np.arange(count)[:, None] % 7 * 2.0
    return KnownObjects(np.asarray(rows), np.hstack([corner, corner, corner + 9, corner + 9]), np.arange(count) % classes)


def world(seed: int, count: int, *, seen: bool = True, embedded: bool = True, labelled_boxes: int = 20) -> Candidates:
    """Tiles 32 px wide on scenes of 4 × n tiles with an overlap of 8 px; some are reviewed, some are not for training."""
    generator = np.random.default_rng(seed)
    place = np.arange(count) % 40
    corner = np.stack([place % 4, place // 4], axis=1) * 24.0
    tile = generator.integers(0, max(count, 1), 4 * count)
    box = generator.integers(0, 20, (4 * count, 2)).astype(float)
    splits, reviewed = generator.choice(SPLITS, count), generator.random(count) < 0.3
    labelled = np.flatnonzero(reviewed & (splits == "train"))
    drift, features = np.round(generator.random(4 * count), 1), np.round(generator.normal(size=(4 * count, 3)), 1)
    scores = np.round(generator.random((4 * count, 2)), 1)
    return Candidates(
        tile_ids=np.sort(generator.choice(10 * count + 10, count, replace=False)),
        scene_ids=np.arange(count) // 40,
        windows_scene=np.hstack([corner, corner + 32]),
        splits=splits,
        reviewed=reviewed,
        embeddings=np.round(generator.normal(size=(count, 6)), 1) if embedded else None,
        detections=Detections(tile, np.hstack([box, box + 10]), scores, drift, features) if seen else None,
        query_entropy=np.round(generator.random(count), 1) if seen else None,
        known=known_objects(labelled[np.arange(labelled_boxes) % len(labelled)], 2) if len(labelled) else None,
        class_names=CLASSES,
    )


COLUMNS = ("tile_ids", "scene_ids", "windows_scene", "splits", "reviewed", "embedded", "embeddings", "query_entropy")


def shuffled(candidates: Candidates, order: np.ndarray) -> Candidates:
    moved = {name: None if getattr(candidates, name) is None else getattr(candidates, name)[order] for name in COLUMNS}
    place = np.argsort(order)
    for name in ("detections", "known"):
        held = getattr(candidates, name)
        if held is not None:
            mixed = held.take(np.random.default_rng(0).permutation(len(held)))
            held = dataclasses.replace(mixed, tile_index=place[mixed.tile_index])
        moved[name] = held
    return dataclasses.replace(candidates, **moved)


def only(candidates: Candidates, rows: np.ndarray) -> Candidates:
    """The candidates at ``rows`` (rising), with what lies on them."""
    moved = {name: getattr(candidates, name)[rows] for name in COLUMNS}
    for name in ("detections", "known"):
        held = getattr(candidates, name)
        kept = held.take(np.isin(held.tile_index, rows))
        moved[name] = dataclasses.replace(kept, tile_index=np.searchsorted(rows, kept.tile_index))
    return dataclasses.replace(candidates, **moved)


@pytest.mark.guarantee("G43")
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(STRATEGIES)), st.integers(0, 10_000), st.sampled_from([0, 100, 900]))
def test_the_order_of_the_input_does_not_matter(seed: int, strategy: str, mix: int, boxes: int) -> None:
    candidates = world(seed, 60, labelled_boxes=boxes)
    config = SelectionConfig(budget_seconds=1000 + 10 * boxes, strategy=strategy, seed=3)
    order = np.random.default_rng(mix).permutation(60)
    assert rank(candidates, config) == rank(shuffled(candidates, order), config)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), strategy=st.sampled_from(sorted(STRATEGIES)), budget=st.floats(600, 20_000))
def test_the_budget_holds_and_no_tile_twice(seed: int, strategy: str, budget: float) -> None:
    candidates = world(seed, 50)
    ranking = rank(candidates, SelectionConfig(budget_seconds=budget, strategy=strategy))
    ids = [tile.tile_id for tile in ranking.tiles]
    assert ids
    assert len(set(ids)) == len(ids)
    assert ranking.estimated_seconds == pytest.approx(math.fsum(tile.estimated_seconds for tile in ranking.tiles))
    assert ranking.estimated_seconds <= budget
    if budget > 19_900:
        assert set(ids) == set(candidates.tile_ids[candidates.selectable].tolist())


@pytest.mark.guarantee("G42")
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), strategy=st.sampled_from(sorted(STRATEGIES)))
def test_only_unreviewed_train_tiles_are_ranked_and_other_splits_have_no_say(seed: int, strategy: str) -> None:
    candidates = world(seed, 50)
    config = SelectionConfig(budget_seconds=900, strategy=strategy)
    ranking = rank(candidates, config)
    allowed = candidates.tile_ids[(candidates.splits == "train") & ~candidates.reviewed]
    assert {tile.tile_id for tile in ranking.tiles} <= set(allowed.tolist())
    assert rank(only(candidates, np.flatnonzero(candidates.splits == "train")), config) == ranking


def test_the_seed_decides_what_is_drawn_and_nothing_else() -> None:
    candidates = world(1, 60)
    by_seed = {
        strategy: [rank(candidates, SelectionConfig(budget_seconds=900, strategy=strategy, seed=seed)).tiles for seed in (0, 1)]
        for strategy in DRAWN + FIXED
    }
    assert all(by_seed[drawn][0] != by_seed[drawn][1] for drawn in DRAWN)
    assert all(by_seed[fixed][0] == by_seed[fixed][1] for fixed in FIXED)


def test_the_control_takes_every_scene_s_share() -> None:
    count = 60
    scene = np.repeat([0, 1], [40, 20])
    far = np.arange(count)[:, None] * 100.0 + np.array([[0, 0, 32, 32]])
    candidates = Candidates(np.arange(count), scene, far, np.full(count, "train"), np.zeros(count, dtype=bool))
    for seed in range(5):
        ranking = rank(candidates, SelectionConfig(budget_seconds=100 * 15, strategy="random", seed=seed))
        assert len(ranking.tiles) == 15
        assert sum(tile.reasons["scene"] == 1 for tile in ranking.tiles) in (4, 5, 6)


def tiles_in_a_row(doubts: list[float], *, step: float = 100.0, **kwargs: object) -> Candidates:
    """One tile a doubt; each shows one object with that score."""
    count = len(doubts)
    corner = np.arange(count) * step
    windows = np.stack([corner, np.zeros(count), corner + 32, np.full(count, 32.0)], axis=1)
    seen = Detections(np.arange(count), np.tile([0.0, 0, 9, 9], (count, 1)), np.array(doubts)[:, None])
    entropy = -np.abs(np.array(doubts) - 0.5)
    values = {"reviewed": np.zeros(count, dtype=bool), "detections": seen, "query_entropy": entropy, **kwargs}
    return Candidates(np.arange(count), np.zeros(count), windows, np.full(count, "train"), **values)


@pytest.mark.parametrize("strategy", ["entropy-mean", "ppal"])
def test_the_doubtful_come_first(strategy: str) -> None:
    row = tiles_in_a_row([0.95, 0.55, 0.7, 0.99])
    ranking = rank(row, SelectionConfig(budget_seconds=60, strategy=strategy))
    order = [tile.tile_id for tile in ranking.tiles]
    assert order[0] in (1, 2)
    assert ranking.tiles[0].score > ranking.tiles[-1].score
    if strategy == "entropy-mean":
        assert order == [1, 2, 0, 3][: len(order)]


def test_a_tile_that_mostly_lies_in_a_chosen_one_comes_last() -> None:
    crowded = tiles_in_a_row([0.5, 0.5, 0.7, 0.8], step=10)
    ranking = rank(crowded, SelectionConfig(budget_seconds=10_000, strategy="entropy-mean"))
    order = [tile.tile_id for tile in ranking.tiles]
    assert abs(order[0] - order[1]) >= 2


def test_a_tile_that_mostly_lies_in_a_labelled_one_comes_last() -> None:
    reviewed = np.array([True, False, False])
    row = tiles_in_a_row([0.5, 0.5, 0.9], step=10, reviewed=reviewed)
    moved = dataclasses.replace(row, windows_scene=row.windows_scene + np.array([[0], [0], [200]]))
    ranking = rank(moved, SelectionConfig(budget_seconds=1000, strategy="entropy-mean"))
    assert [tile.tile_id for tile in ranking.tiles] == [2, 1]
    assert [tile.reasons["overlaps_labelled"] for tile in ranking.tiles] == [False, True]


def test_labelled_ground_is_found_in_a_scene_of_many_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def counted(windows: np.ndarray, window: np.ndarray, share: float) -> np.ndarray:
        compared.append(len(windows))
        return overlapping(windows, window, share)

    monkeypatch.setattr("engine.selection.ground.overlapping", counted)
    number = np.arange(10_000)
    corner = np.stack([number % 100, number // 100], axis=1) * 20.0
    reviewed = np.isin(number, np.arange(0, 10_000, 25))
    pool = Candidates(number, np.zeros(10_000), np.hstack([corner, corner + 50]), np.full(10_000, "train"), reviewed)
    made = make_pool(pool, SelectionConfig())
    assert sum(compared) < 100 * reviewed.sum()
    for row in (0, 70, 5000):
        expected = any(overlapping(made.windows_scene[[row]], window, 0.5)[0] for window in pool.windows_scene[reviewed])
        assert made.deferred[row] == expected


def test_coverage_decides_first_and_doubt_later() -> None:
    far_and_sure = np.array([[0.0, 0], [0, 0.1], [9, 9]])
    doubts, reviewed = [0.5, 0.5, 0.99], np.array([True, False, False])
    alone = {"balance_share": 0.0, "audit_share": 0.0, "budget_seconds": 1e4}
    early = tiles_in_a_row(doubts, embeddings=far_and_sure, known=known_objects([0] * 5), reviewed=reviewed)
    assert rank(early, SelectionConfig(**alone)).tiles[0].tile_id == 2
    late = dataclasses.replace(early, known=known_objects([0] * 500))
    assert rank(late, SelectionConfig(uncertainty_share=1.0, **alone)).tiles[0].tile_id == 1


def three_classes(**kwargs: object) -> Candidates:
    """Five tiles that show one object each: three cars, a boat and a crane; ten cars and a crane are known, on the first tile."""
    row = tiles_in_a_row([0.5] * 5, reviewed=np.array([True, False, False, False, False]))
    scores = np.full((5, 3), 0.01)
    scores[[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]] = 0.9
    known = KnownObjects(np.zeros(11, dtype=int), np.tile([0.0, 0, 9, 9], (11, 1)), np.array([0] * 10 + [2]))
    seen = Detections(np.arange(5), np.tile([0.0, 0, 9, 9], (5, 1)), scores)
    return dataclasses.replace(row, detections=seen, known=known, class_names=("car", "boat", "crane"), **kwargs)


def test_a_class_of_which_little_is_known_comes_first() -> None:
    config = SelectionConfig(budget_seconds=1e4, audit_share=0.0)
    ranking = rank(three_classes(), config)
    assert [tile.tile_id for tile in ranking.tiles[:2]] == [3, 4]
    assert ranking.tiles[0].reasons["classes"] == {"boat": 0.9}
    assert "1 × boat" in ranking.tiles[0].why


def test_a_wanted_class_comes_before_one_of_which_less_is_known() -> None:
    config = SelectionConfig(budget_seconds=1e4, audit_share=0.0, wanted_classes=("crane",), wanted_weight=10.0)
    assert rank(three_classes(), config).tiles[0].tile_id == 4
    with pytest.raises(BadInput, match="the wanted class 'ship'"):
        rank(three_classes(), SelectionConfig(wanted_classes=("ship",)))


def many_tiles(count: int, scores: np.ndarray, scene_ids: np.ndarray | None = None) -> Candidates:
    """Tiles apart from one another, each with one object of the score, if that is above 0."""
    row = tiles_in_a_row([0.5] * count)
    shown = np.flatnonzero(scores > 0)
    seen = Detections(shown, np.tile([0.0, 0, 9, 9], (len(shown), 1)), scores[shown, None])
    return dataclasses.replace(row, detections=seen, scene_ids=np.zeros(count) if scene_ids is None else scene_ids)


def test_empty_tiles_and_single_scenes_get_their_share_and_no_more() -> None:
    doubt = np.r_[np.full(30, 0.5), np.zeros(30)]
    points = np.random.default_rng(0).normal(size=(60, 8))
    pool = dataclasses.replace(many_tiles(60, doubt), embeddings=points, embedded=None)
    free = SelectionConfig(budget_seconds=200, audit_share=0.0, scene_share=1.0, balance_share=0.0, uncertainty_share=0.0)
    shares = []
    for empty_share in (0.1, 1.0, 0.0):
        tiles = rank(pool, free.model_copy(update={"empty_share": empty_share})).tiles
        shares.append(sum(tile.estimated_seconds for tile in tiles if not tile.reasons["objects_seen"]) / 200)
    assert shares[2] == 0 < shares[0] <= 0.16 < shares[1]
    by_scene = dataclasses.replace(many_tiles(60, np.r_[np.full(20, 0.5), np.full(40, 0.95)]), scene_ids=np.r_[np.zeros(20), np.ones(40)])
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


def test_near_duplicates_wait() -> None:
    by_classes = SelectionConfig(budget_seconds=1e4, audit_share=0.0, balance_share=1.0, uncertainty_share=0.0)

    def order(points: list[list[float]]) -> list[int]:
        row = tiles_in_a_row([0.9, 0.9, 0.6, 0.5], embeddings=np.array(points))
        return [tile.tile_id for tile in rank(row, by_classes).tiles]

    alike, different = order([[1.0, 0], [1.001, 0], [0, 1], [-1, -1]]), order([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert abs(alike.index(0) - alike.index(1)) >= 2
    assert abs(different.index(0) - different.index(1)) == 1


def test_a_share_of_the_budget_is_drawn_at_random_and_spread_over_the_batch() -> None:
    pool = many_tiles(200, np.round(np.random.default_rng(0).random(200), 2))
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


def unequal_tiles(numbers: np.ndarray, *, step: float = 100.0) -> Candidates:
    """Tiles in a row with so many sure objects each: one costs about 10 s and 5 s an object."""
    row = tiles_in_a_row([0.5] * len(numbers), step=step)
    index = np.repeat(np.arange(len(numbers)), numbers)
    corner = 10.0 * (np.arange(len(index)) - np.repeat(np.cumsum(numbers) - numbers, numbers))[:, None]
    boxes = corner + np.array([[0.0, 0, 9, 9]])
    return dataclasses.replace(row, detections=Detections(index, boxes, np.full((len(index), 1), 0.9)))


@pytest.mark.parametrize(("budget", "tiles"), [(250, 1), (1200, 2), (1800, 3)])
def test_what_a_tile_costs_has_no_say_in_whether_it_is_drawn(budget: float, tiles: int) -> None:
    numbers = np.r_[np.full(30, 1), np.full(30, 20)]
    pool = unequal_tiles(numbers)
    dear, drawn = 0, 0
    for seed in range(60):
        ranking = rank(pool, SelectionConfig(budget_seconds=budget, seed=seed))
        audit = [tile.tile_id for tile in ranking.tiles if tile.reasons["audit"]]
        assert len(audit) == tiles
        assert ranking.estimated_seconds <= budget
        dear, drawn = dear + int((numbers[audit] == 20).sum()), drawn + tiles
    assert abs(dear / drawn - 0.5) <= 3 * 0.5 / drawn**0.5


def test_a_small_budget_has_a_drawn_tile_too_and_one_for_a_single_tile_says_that_it_has_none() -> None:
    pool = unequal_tiles(np.full(40, 4))
    price = rank(pool, SelectionConfig(budget_seconds=1e3)).tiles[0].estimated_seconds
    said: list[str] = []

    def drawn(tiles: float) -> list[bool]:
        ranking = rank(pool, SelectionConfig(budget_seconds=tiles * price), progress=lambda done, total, message: said.append(message))
        return [tile.reasons["audit"] for tile in ranking.tiles]

    assert sum(drawn(2.01)) == 1
    assert not any("drawn at random" in message for message in said)
    assert drawn(1.5) == [False]
    assert any("no tile is drawn at random" in message for message in said)


def test_ground_is_drawn_once_and_a_tile_that_exceeds_the_budget_is_passed_over() -> None:
    close = unequal_tiles(np.full(60, 2), step=10)
    for seed in range(10):
        ranking = rank(close, SelectionConfig(budget_seconds=120, audit_share=0.5, seed=seed))
        places = sorted(tile.tile_id for tile in ranking.tiles if tile.reasons["audit"])
        assert len(places) > 2
        assert np.diff(places).min() >= 2
    heavy = unequal_tiles(np.r_[np.full(20, 1), np.full(5, 30)])
    for seed in range(20):
        ranking = rank(heavy, SelectionConfig(budget_seconds=60, audit_share=0.5, seed=seed))
        assert sum(tile.reasons["audit"] for tile in ranking.tiles) == 2
        assert ranking.estimated_seconds <= 60


def test_a_shortlist_holds_the_weak_hints_of_a_wanted_class() -> None:
    generator = np.random.default_rng(0)
    row = tiles_in_a_row([0.5] * 1000, known=known_objects([], 2))
    hinted = generator.choice(1000, 10, replace=False)
    tile = np.r_[np.repeat(np.arange(1000), 2), hinted]
    scores = np.zeros((2010, 2))
    scores[:2000, 0] = np.round(generator.uniform(0.3, 0.7, 2000), 2)
    scores[2000:, 1] = 0.09
    boxes = np.c_[np.arange(2010) % 2 * 12.0, np.zeros(2010), np.arange(2010) % 2 * 12.0 + 9, np.full(2010, 9.0)]
    pool = dataclasses.replace(row, detections=Detections(tile, boxes, scores), class_names=CLASSES)
    config = SelectionConfig(budget_seconds=1000, audit_share=0.0, wanted_classes=("car",), wanted_weight=30.0, scene_share=1.0)
    for shortlist_tiles in (1000, 100):
        found = {tile.tile_id for tile in rank(pool, config.model_copy(update={"shortlist_tiles": shortlist_tiles})).tiles}
        assert set(hinted.tolist()) <= found
        assert len(found) > 20


def test_a_shortlist_holds_the_best_of_every_class_though_one_is_everywhere() -> None:
    common, rare = np.arange(1000), np.arange(0, 1000, 100)
    scores = np.zeros((1010, 2))
    scores[:1000, 0], scores[1000:, 1] = 0.5, 0.09
    boxes = np.tile([0.0, 0, 9, 9], (1010, 1)) + np.r_[np.zeros(1000), np.full(10, 12.0)][:, None]
    row = tiles_in_a_row([0.5] * 1000, known=known_objects([]))
    pool = dataclasses.replace(row, detections=Detections(np.r_[common, rare], boxes, scores), class_names=CLASSES)
    config = SelectionConfig(budget_seconds=600, audit_share=0.0, shortlist_tiles=60, uncertainty_share=0.0, scene_share=1.0)
    assert set(rare.tolist()) <= {tile.tile_id for tile in rank(pool, config).tiles}


def test_a_shortlist_costs_little() -> None:
    pool = world(4, 300, labelled_boxes=200)
    whole, part = (rank(pool, SelectionConfig(budget_seconds=400, audit_share=0.0, shortlist_tiles=size)).tiles for size in (300, 20))
    assert len(part) >= 0.8 * len(whole)
    assert {tile.tile_id for tile in part} != {tile.tile_id for tile in whole}


@pytest.mark.parametrize(
    ("boxes", "classes", "expected"), [(0, 1, 0), (20, 1, 0), (60, 1, 0.15), (100, 1, 0.3), (9999, 1, 0.3), (100, 2, 0.1125)]
)
def test_the_weight_of_doubt_grows_with_the_labels(boxes: int, classes: int, expected: float) -> None:
    assert uncertainty_weight(boxes, classes, SelectionConfig()) == pytest.approx(expected)


def test_the_weight_may_jump() -> None:
    config = SelectionConfig(coverage_boxes_per_class=50, full_boxes_per_class=50)
    assert [uncertainty_weight(boxes, 1, config) for boxes in (49, 50)] == [0, config.uncertainty_share]


@pytest.mark.parametrize(
    ("seen", "embedded", "weights"),
    [
        (False, False, {}),
        (False, True, {"uncertainty": 0, "balance": 0, "coverage": 1}),
        (True, False, {"uncertainty": 0.3, "balance": 0.7, "coverage": 0}),
        (True, True, {"uncertainty": 0.0, "balance": 0.8, "coverage": 0.2}),
    ],
)
def test_tilehawk_makes_do_with_what_there_is(seen: bool, embedded: bool, weights: dict[str, float]) -> None:
    ranking = rank(world(2, 40, seen=seen, embedded=embedded), SelectionConfig(budget_seconds=300))
    assert ranking.weights == pytest.approx(weights)
    assert ranking.tiles


@pytest.mark.parametrize(
    ("strategy", "kwargs"),
    [
        ("entropy-mean", {"seen": False}),
        ("ppal", {"seen": False}),
        ("k-center", {"embedded": False}),
        ("typiclust", {"embedded": False}),
        ("prob-cover", {"embedded": False}),
    ],
)
def test_a_strategy_without_its_ground_is_refused(strategy: str, kwargs: dict[str, bool]) -> None:
    with pytest.raises(BadInput, match=strategy):
        rank(world(2, 40, **kwargs), SelectionConfig(strategy=strategy))


@pytest.mark.parametrize("budget", [0.0, -3.5])
def test_a_budget_of_nothing_is_refused_by_its_value(budget: float) -> None:
    with pytest.raises(BadInput, match=f"{budget:g} seconds") as refused:
        rank(world(0, 20), SelectionConfig(budget_seconds=budget))
    assert refused.value.exit_code == 3


def test_a_budget_below_the_cheapest_tile_says_what_it_costs() -> None:
    candidates = world(0, 20, seen=False)
    with pytest.raises(NothingToDo, match=r"100\.0 seconds"):
        rank(candidates, SelectionConfig(budget_seconds=99))
    assert len(rank(candidates, SelectionConfig(budget_seconds=100)).tiles) == 1


def test_no_tile_left_is_nothing_to_do() -> None:
    candidates = world(0, 20)
    with pytest.raises(NothingToDo, match="no tile is left"):
        rank(dataclasses.replace(candidates, reviewed=np.ones(20, dtype=bool)), SelectionConfig())


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("boxes", [0, 900])
def test_every_tile_has_its_reasons_in_json_and_a_sentence(strategy: str, boxes: int) -> None:
    candidates = world(5, 60, labelled_boxes=boxes)
    labelled = set(candidates.tile_ids[candidates.labelled].tolist())
    for tile in rank(candidates, SelectionConfig(budget_seconds=500 + 10 * boxes, strategy=strategy)).tiles:
        assert json.loads(json.dumps(tile.reasons, allow_nan=False)) == tile.reasons
        assert tile.reasons["nearest_labelled_tile"] in labelled
        assert 0 <= tile.reasons["novelty"] <= 2
        assert tile.reasons["objects_seen"] >= 0
        assert tile.why.endswith("boxes.")
        assert f"{tile.estimated_seconds:.0f} s" in tile.why


def test_without_a_model_the_reasons_say_so() -> None:
    tile = rank(world(5, 60, seen=False, embedded=False), SelectionConfig(budget_seconds=300)).tiles[0]
    assert tile.reasons["uncertainty"] is tile.reasons["novelty"] is tile.reasons["nearest_labelled_tile"] is None
    assert tile.why.startswith("Drawn at random from scene")


def test_before_the_first_label_everything_is_new() -> None:
    candidates = dataclasses.replace(world(5, 60, seen=False), reviewed=np.zeros(60, dtype=bool))
    tile = rank(candidates, SelectionConfig(budget_seconds=300)).tiles[0]
    assert tile.reasons["novelty"] == 1
    assert tile.why.startswith("Nothing is labelled yet")


def test_it_can_be_cancelled() -> None:
    def stop(done: int, total: int, message: str) -> None:
        raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        rank(world(1, 40), SelectionConfig(), progress=stop)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile_ids": np.array([1, 1, 2])}, "tile 1 stands twice"),
        ({"scene_ids": np.zeros(2)}, "2 scene_ids for 3 tiles"),
        ({"embeddings": np.zeros((2, 4))}, "2 embeddings for 3 tiles"),
        ({"embeddings": np.full((3, 4), np.nan), "embedded": None}, "embeddings of tile 0 with a number that is not finite"),
        ({"detections": Detections(np.array([2]), np.zeros((1, 4)), np.array([[np.nan]]))}, "a detection on tile 2"),
        ({"detections": Detections(np.array([1]), np.zeros((1, 4)), np.array([[1.5]]))}, "a detection on tile 1"),
        ({"known": KnownObjects(np.array([3]), np.zeros((1, 4)), np.array([0]))}, "a known object on row 3"),
        ({"known": KnownObjects(np.array([0]), np.zeros((1, 4)), np.array([1]))}, "a known object of class 1"),
        ({"embeddings": np.zeros((3, 4)), "embedded": np.array([True, False, True])}, "tile 1 has no embedding"),
        ({"detections": Detections(np.array([3]), np.zeros((1, 4)), np.zeros((1, 1)))}, "a detection on row 3 of 3 tiles"),
    ],
)
def test_wrong_candidates_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        dataclasses.replace(tiles_in_a_row([0.5, 0.5, 0.5]), **change)


def test_a_labelled_tile_without_an_embedding_is_left_out_of_the_comparison() -> None:
    embeddings = np.array([[np.nan, np.nan], [0.0, 1], [1, 0]])
    reviewed, embedded = np.array([True, True, False]), np.array([False, True, True])
    row = tiles_in_a_row([0.5, 0.5, 0.5], reviewed=reviewed, embeddings=embeddings, embedded=embedded)
    assert rank(row, SelectionConfig(budget_seconds=50)).tiles[0].reasons["nearest_labelled_tile"] == 1


def blind_detector(objects: int | None) -> Candidates:
    """Six tiles apart from one another, the first two labelled with ``objects`` each; the detector saw a faint one on each."""
    corner = np.stack([np.arange(6) * 100.0, np.zeros(6)], axis=1)
    return Candidates(
        tile_ids=np.arange(6),
        scene_ids=np.zeros(6, dtype=np.int64),
        windows_scene=np.hstack([corner, corner + 32]),
        splits=np.full(6, "train"),
        reviewed=np.array([True, True, False, False, False, False]),
        embeddings=np.eye(6),
        detections=Detections(np.arange(6), np.tile([2.0, 2.0, 12.0, 12.0], (6, 1)), np.full((6, 1), 0.1)),
        known=None if objects is None else known_objects([0] * objects + [1] * objects),
    )


def test_a_detector_that_counts_too_few_objects_on_labelled_tiles_is_not_believed_on_the_others():
    settings = SelectionConfig(budget_seconds=1e4, audit_share=0.0)
    uncounted, few, many = (rank(blind_detector(objects), settings).tiles for objects in (None, 0, 10))
    for without, unchanged, corrected in zip(uncounted, few, many, strict=True):
        expected = without.reasons["expected_boxes"]["missed"]
        assert unchanged.estimated_seconds == without.estimated_seconds
        assert corrected.reasons["expected_boxes"]["missed"] == pytest.approx(10)
        assert corrected.estimated_seconds - without.estimated_seconds == pytest.approx(settings.prices.draw * (10 - expected), abs=0.1)


def test_without_a_detector_labelled_tiles_say_how_many_objects_to_expect():
    def first(labelled: int) -> float:
        row = tiles_in_a_row([0.5] * 9, reviewed=np.arange(9) < labelled, detections=None, known=known_objects([0] * 2 * labelled))
        return rank(row, SelectionConfig(budget_seconds=1e4, strategy="random")).tiles[0].estimated_seconds

    assert first(4) == pytest.approx(4 + 8 * 12)
    assert first(5) == pytest.approx(4 + 2 * 12)
