"""Candidates: what cannot be is refused by its tile."""

import dataclasses
import types

import numpy as np
import pytest

from engine.errors import BadInput
from engine.selection.config import SelectionConfig
from engine.selection.detections import Detections, KnownObjects
from engine.selection.rank import rank


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile_ids": np.array([1, 1, 2])}, "tile 1 stands twice"),
        ({"scene_ids": np.zeros(2)}, "2 scene_ids for 3 tiles"),
        ({"embeddings": np.zeros((2, 4))}, "2 embeddings for 3 tiles"),
        ({"embeddings": np.full((3, 4), np.nan), "embedded": None}, "embeddings of tile 0 with a number that is not finite"),
        ({"detections": Detections(np.array([2]), np.zeros((1, 4)), np.array([[np.nan]]))}, "a detection on tile 2"),
        ({"detections": Detections(np.array([1]), np.zeros((1, 4)), np.array([[1.5]]))}, "a detection on tile 1"),
        ({"detections": Detections(np.array([1]), np.zeros((1, 4)), np.ones((1, 1)), np.array([np.nan]))}, "a detection on tile 1"),
        ({"detections": Detections(np.array([2]), np.zeros((1, 4)), np.ones((1, 1)), features=np.array([[0, np.inf]]))}, "on tile 2"),
        ({"waiting": np.zeros(2, dtype=bool)}, "2 waiting for 3 tiles"),
        ({"known": KnownObjects(np.array([3]), np.zeros((1, 4)), np.array([0]))}, "a known object on row 3"),
        ({"known": KnownObjects(np.array([0]), np.zeros((1, 4)), np.array([1]))}, "a known object of class 1"),
        ({"embeddings": np.zeros((3, 4)), "embedded": np.array([True, False, True])}, "tile 1 has no embedding"),
        ({"detections": Detections(np.array([3]), np.zeros((1, 4)), np.zeros((1, 1)))}, "a detection on row 3 of 3 tiles"),
    ],
)
def test_wrong_candidates_are_refused(choosable: types.ModuleType, change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        dataclasses.replace(choosable.tiles_in_a_row([0.5, 0.5, 0.5]), **change)


def test_a_labelled_tile_without_an_embedding_is_left_out_of_the_comparison(choosable: types.ModuleType) -> None:
    embeddings = np.array([[np.nan, np.nan], [0.0, 1], [1, 0]])
    reviewed, embedded = np.array([True, True, False]), np.array([False, True, True])
    row = choosable.tiles_in_a_row([0.5, 0.5, 0.5], reviewed=reviewed, embeddings=embeddings, embedded=embedded)
    assert rank(row, SelectionConfig(budget_seconds=50)).tiles[0].reasons["nearest_labelled_tile"] == 1
