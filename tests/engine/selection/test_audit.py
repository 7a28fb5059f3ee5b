"""Audit: each kind of disagreement, none where detector and label agree, and a budget that holds."""

import numpy as np
import pytest

from engine.selection.audit import DisagreementConfig, disagreements, most_suspicious
from engine.selection.detections import Detections, KnownObjects

CONFIG = DisagreementConfig()
BOX, BESIDE, FAR = [0, 0, 10, 10], [0, 5, 10, 15], [30, 30, 40, 40]


def found(detected, drawn, tiles=(0,)):
    """Disagreements between (tile, box, scores of two classes) and (tile, box, label)."""
    seen = Detections(
        np.array([each[0] for each in detected], dtype=int),
        np.array([each[1] for each in detected], dtype=float).reshape(-1, 4),
        np.array([each[2] for each in detected], dtype=float).reshape(-1, 2),
    )
    known = KnownObjects(
        np.array([each[0] for each in drawn], dtype=int),
        np.array([each[1] for each in drawn], dtype=float).reshape(-1, 4),
        np.array([each[2] for each in drawn], dtype=int),
    )
    return disagreements(seen, known, np.array(tiles), CONFIG)


@pytest.mark.parametrize(
    ("detected", "drawn", "kinds"),
    [
        ([(0, BOX, [0.9, 0])], [(0, BOX, 0)], []),
        ([(0, BOX, [0.9, 0])], [], [("missing", None, 0, 0.9)]),
        ([(0, BOX, [0.59, 0])], [], []),
        ([(0, BOX, [0.1, 0.9])], [(0, BOX, 0)], [("class", 0, 1, 0.8)]),
        ([(0, BOX, [0.1, 0.9]), (0, BOX, [0.7, 0.1])], [(0, BOX, 0)], []),
        ([(0, BESIDE, [0.9, 0])], [(0, BOX, 0)], [("place", 0, 0, 0.6)]),
        ([], [(0, BOX, 1)], [("unseen", 1, None, 1.0)]),
        ([(0, BOX, [0.04, 0])], [(0, BOX, 1)], [("unseen", 1, None, 0.96)]),
        ([(0, BOX, [0.06, 0])], [(0, BOX, 1)], []),
        ([(0, FAR, [0.8, 0])], [(0, BOX, 0)], [("unseen", 0, None, 1.0), ("missing", None, 0, 0.8)]),
    ],
)
def test_each_kind_of_disagreement(detected, drawn, kinds):
    said = [(each.kind, each.label, each.detected, pytest.approx(each.suspicion, abs=1e-3)) for each in found(detected, drawn)]
    assert said == kinds


def test_only_labelled_tiles_are_held_to_it():
    detected = [(0, BOX, [0.9, 0]), (2, BOX, [0.95, 0])]
    assert [each.tile for each in found(detected, [], tiles=(0, 1))] == [0]
    assert [each.tile for each in found(detected, [], tiles=(2, 0))] == [2, 0]


def test_the_most_suspicion_a_second_comes_first_and_the_budget_holds():
    said = found([(0, BOX, [0.9, 0]), (1, BOX, [0.7, 0]), (1, FAR, [0.7, 0]), (2, BOX, [0.8, 0])], [], tiles=(0, 1, 2))
    assert most_suspicious(said, np.array([10.0, 10, 40]), 100) == [1, 0, 2]
    assert most_suspicious(said, np.array([10.0, 10, 40]), 25) == [1, 0]
    assert most_suspicious(said, np.array([10.0, 10, 4]), 15) == [2, 1]
    assert most_suspicious(said, np.array([10.0, 10, 40]), 5) == []
