"""The pool: labelled ground, shortlists, and how many objects to expect."""

import dataclasses
import types

import numpy as np
import pytest

from engine.selection.candidates import Candidates, overlapping
from engine.selection.config import SelectionConfig
from engine.selection.detections import Detections
from engine.selection.pool import make_pool
from engine.selection.rank import rank


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


def test_a_shortlist_holds_the_weak_hints_of_a_wanted_class(choosable: types.ModuleType) -> None:
    generator = np.random.default_rng(0)
    row = choosable.tiles_in_a_row([0.5] * 1000, known=choosable.known_objects([], 2))
    hinted = generator.choice(1000, 10, replace=False)
    tile = np.r_[np.repeat(np.arange(1000), 2), hinted]
    scores = np.zeros((2010, 2))
    scores[:2000, 0] = np.round(generator.uniform(0.3, 0.7, 2000), 2)
    scores[2000:, 1] = 0.09
    boxes = np.c_[np.arange(2010) % 2 * 12.0, np.zeros(2010), np.arange(2010) % 2 * 12.0 + 9, np.full(2010, 9.0)]
    pool = dataclasses.replace(row, detections=Detections(tile, boxes, scores), class_names=choosable.CLASSES)
    config = SelectionConfig(budget_seconds=1000, audit_share=0.0, wanted_classes=("car",), wanted_weight=30.0, scene_share=1.0)
    for shortlist_tiles in (1000, 100):
        found = {tile.tile_id for tile in rank(pool, config.model_copy(update={"shortlist_tiles": shortlist_tiles})).tiles}
        assert set(hinted.tolist()) <= found
        assert len(found) > 20


def test_a_shortlist_holds_the_best_of_every_class_though_one_is_everywhere(choosable: types.ModuleType) -> None:
    common, rare = np.arange(1000), np.arange(0, 1000, 100)
    scores = np.zeros((1010, 2))
    scores[:1000, 0], scores[1000:, 1] = 0.5, 0.09
    boxes = np.tile([0.0, 0, 9, 9], (1010, 1)) + np.r_[np.zeros(1000), np.full(10, 12.0)][:, None]
    row = choosable.tiles_in_a_row([0.5] * 1000, known=choosable.known_objects([]))
    pool = dataclasses.replace(row, detections=Detections(np.r_[common, rare], boxes, scores), class_names=choosable.CLASSES)
    config = SelectionConfig(budget_seconds=600, audit_share=0.0, shortlist_tiles=60, uncertainty_share=0.0, scene_share=1.0)
    assert set(rare.tolist()) <= {tile.tile_id for tile in rank(pool, config).tiles}


def test_a_shortlist_costs_little(choosable: types.ModuleType) -> None:
    pool = choosable.world(4, 300, labelled_boxes=200)
    whole, part = (rank(pool, SelectionConfig(budget_seconds=400, audit_share=0.0, shortlist_tiles=size)).tiles for size in (300, 20))
    assert len(part) >= 0.8 * len(whole)
    assert {tile.tile_id for tile in part} != {tile.tile_id for tile in whole}


def blind_detector(choosable: types.ModuleType, objects: int | None) -> Candidates:
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
        known=None if objects is None else choosable.known_objects([0] * objects + [1] * objects),
    )


def test_a_detector_that_counts_too_few_objects_on_labelled_tiles_is_not_believed_on_the_others(choosable: types.ModuleType):
    settings = SelectionConfig(budget_seconds=1e4, audit_share=0.0)
    uncounted, few, many = (rank(blind_detector(choosable, objects), settings).tiles for objects in (None, 0, 10))
    for without, unchanged, corrected in zip(uncounted, few, many, strict=True):
        expected = without.reasons["expected_boxes"]["missed"]
        assert unchanged.estimated_seconds == without.estimated_seconds
        assert corrected.reasons["expected_boxes"]["missed"] == pytest.approx(10)
        assert corrected.estimated_seconds - without.estimated_seconds == pytest.approx(settings.prices.draw * (10 - expected), abs=0.1)


def test_without_a_detector_labelled_tiles_say_how_many_objects_to_expect(choosable: types.ModuleType):
    def first(labelled: int) -> float:
        row = choosable.tiles_in_a_row(
            [0.5] * 9, reviewed=np.arange(9) < labelled, detections=None, known=choosable.known_objects([0] * 2 * labelled)
        )
        return rank(row, SelectionConfig(budget_seconds=1e4, strategy="random")).tiles[0].estimated_seconds

    assert first(4) == pytest.approx(4 + 8 * 12)
    assert first(5) == pytest.approx(4 + 2 * 12)
