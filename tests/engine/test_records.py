"""Where a tile was cut out, and which objects lie there."""

import numpy as np
import pytest

from engine.records import Ground, Window


@pytest.mark.parametrize(
    ("scene", "box", "held"),
    [
        (7, (110, 60, 120, 70), True),
        (7, (90, 40, 101, 51), True),
        (7, (0, 0, 500, 500), True),
        (7, (80, 60, 100, 70), True),
        (7, (80, 60, 98, 70), False),
        (7, (164, 60, 180, 70), True),
        (7, (166, 60, 180, 70), False),
        (8, (110, 60, 120, 70), False),
        (-1, (110, 60, 120, 70), False),
    ],
)
def test_ground_holds_what_reaches_into_the_window_or_up_to_its_edge_in_the_same_scene(scene, box, held):
    ground = Ground(7, Window(100, 50, 64, 64))
    assert ground.holds(np.array([scene]), np.array([box], dtype=np.float64)).tolist() == [held]
