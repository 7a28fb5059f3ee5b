"""Ranking: within the budget, the same in any input order, and only tiles that may be chosen."""

import dataclasses
import json
import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BadInput, Cancelled, NothingToDo
from engine.selection.candidates import Candidates
from engine.selection.config import SelectionConfig
from engine.selection.rank import rank
from engine.selection.strategies import STRATEGIES

DRAWN, FIXED = ("random", "tilehawk"), ("k-center", "entropy-mean", "ppal")

COLUMNS = ("tile_ids", "scene_ids", "windows_scene", "splits", "reviewed", "embedded", "embeddings", "query_entropy", "waiting")


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
    moved = {name: None if getattr(candidates, name) is None else getattr(candidates, name)[rows] for name in COLUMNS}
    for name in ("detections", "known"):
        held = getattr(candidates, name)
        kept = held.take(np.isin(held.tile_index, rows))
        moved[name] = dataclasses.replace(kept, tile_index=np.searchsorted(rows, kept.tile_index))
    return dataclasses.replace(candidates, **moved)


@pytest.mark.guarantee("G43")
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(STRATEGIES)), st.integers(0, 10_000), st.sampled_from([0, 100, 900]))
def test_the_order_of_the_input_does_not_matter(choosable: types.ModuleType, seed: int, strategy: str, mix: int, boxes: int) -> None:
    candidates = choosable.world(seed, 60, labelled_boxes=boxes)
    config = SelectionConfig(budget_seconds=1000 + 10 * boxes, strategy=strategy, seed=3)
    order = np.random.default_rng(mix).permutation(60)
    assert rank(candidates, config) == rank(shuffled(candidates, order), config)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), strategy=st.sampled_from(sorted(STRATEGIES)), budget=st.floats(600, 20_000))
def test_the_budget_holds_and_no_tile_twice(choosable: types.ModuleType, seed: int, strategy: str, budget: float) -> None:
    candidates = choosable.world(seed, 50)
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
def test_only_unreviewed_train_tiles_are_ranked_and_other_splits_have_no_say(choosable: types.ModuleType, seed: int, strategy: str) -> None:
    candidates = choosable.world(seed, 50)
    config = SelectionConfig(budget_seconds=900, strategy=strategy)
    ranking = rank(candidates, config)
    allowed = candidates.tile_ids[(candidates.splits == "train") & ~candidates.reviewed]
    assert {tile.tile_id for tile in ranking.tiles} <= set(allowed.tolist())
    assert rank(only(candidates, np.flatnonzero(candidates.splits == "train")), config) == ranking


def test_the_seed_decides_what_is_drawn_and_nothing_else(choosable: types.ModuleType) -> None:
    candidates = choosable.world(1, 60)
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


@pytest.mark.parametrize(
    ("seen", "embedded", "weights"),
    [
        (False, False, {}),
        (False, True, {"uncertainty": 0, "balance": 0, "coverage": 1}),
        (True, False, {"uncertainty": 0.3, "balance": 0.7, "coverage": 0}),
        (True, True, {"uncertainty": 0.0, "balance": 0.8, "coverage": 0.2}),
    ],
)
def test_tilehawk_makes_do_with_what_there_is(choosable: types.ModuleType, seen: bool, embedded: bool, weights: dict[str, float]) -> None:
    ranking = rank(choosable.world(2, 40, seen=seen, embedded=embedded), SelectionConfig(budget_seconds=300))
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
def test_a_strategy_without_its_ground_is_refused(choosable: types.ModuleType, strategy: str, kwargs: dict[str, bool]) -> None:
    with pytest.raises(BadInput, match=strategy):
        rank(choosable.world(2, 40, **kwargs), SelectionConfig(strategy=strategy))


@pytest.mark.parametrize("budget", [0.0, -3.5])
def test_a_budget_of_nothing_is_refused_by_its_value(choosable: types.ModuleType, budget: float) -> None:
    with pytest.raises(BadInput, match=f"{budget:g} seconds") as refused:
        rank(choosable.world(0, 20), SelectionConfig(budget_seconds=budget))
    assert refused.value.exit_code == 3


def test_a_budget_below_the_cheapest_tile_says_what_it_costs(choosable: types.ModuleType) -> None:
    candidates = choosable.world(0, 20, seen=False)
    with pytest.raises(NothingToDo, match=r"100\.0 seconds"):
        rank(candidates, SelectionConfig(budget_seconds=99))
    assert len(rank(candidates, SelectionConfig(budget_seconds=100)).tiles) == 1


def test_no_tile_left_is_nothing_to_do(choosable: types.ModuleType) -> None:
    candidates = choosable.world(0, 20)
    with pytest.raises(NothingToDo, match="no tile is left"):
        rank(dataclasses.replace(candidates, reviewed=np.ones(20, dtype=bool)), SelectionConfig())


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("boxes", [0, 900])
def test_every_tile_has_its_reasons_in_json_and_a_sentence(choosable: types.ModuleType, strategy: str, boxes: int) -> None:
    candidates = choosable.world(5, 60, labelled_boxes=boxes)
    labelled = set(candidates.tile_ids[candidates.labelled].tolist())
    for tile in rank(candidates, SelectionConfig(budget_seconds=500 + 10 * boxes, strategy=strategy)).tiles:
        assert json.loads(json.dumps(tile.reasons, allow_nan=False)) == tile.reasons
        assert tile.reasons["nearest_labelled_tile"] in labelled
        assert 0 <= tile.reasons["novelty"] <= 2
        assert tile.reasons["objects_seen"] >= 0
        assert tile.why.endswith("boxes.")
        assert f"{tile.estimated_seconds:.0f} s" in tile.why


def test_without_a_model_the_reasons_say_so(choosable: types.ModuleType) -> None:
    tile = rank(choosable.world(5, 60, seen=False, embedded=False), SelectionConfig(budget_seconds=300)).tiles[0]
    assert tile.reasons["uncertainty"] is tile.reasons["novelty"] is tile.reasons["nearest_labelled_tile"] is None
    assert tile.why.startswith("Drawn at random from scene")


def test_before_the_first_label_everything_is_new(choosable: types.ModuleType) -> None:
    candidates = dataclasses.replace(choosable.world(5, 60, seen=False), reviewed=np.zeros(60, dtype=bool))
    tile = rank(candidates, SelectionConfig(budget_seconds=300)).tiles[0]
    assert tile.reasons["novelty"] == 1
    assert tile.why.startswith("Nothing is labelled yet")


def test_it_can_be_cancelled(choosable: types.ModuleType) -> None:
    def stop(done: int, total: int, message: str) -> None:
        raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        rank(choosable.world(1, 40), SelectionConfig(), progress=stop)
