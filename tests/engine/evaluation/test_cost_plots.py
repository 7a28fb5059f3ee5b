"""The picture of foretold and measured seconds is a PNG, with one round and with many."""

import numpy as np
import pytest
from PIL import Image

from engine.evaluation.cost_plots import CostPicture, write_cost_picture


@pytest.mark.parametrize("rounds", [1, 5])
def test_it_is_drawn_and_what_is_measured_changes_it(tmp_path, rounds):
    generator = np.random.default_rng(0)
    p50 = generator.uniform(5, 200, 30)
    batch = generator.uniform(500, 3000, rounds)
    drawn = []
    for name, slower in (("one", 1.0), ("other", 1.7)):
        path = tmp_path / f"{name}.png"
        write_cost_picture(CostPicture(p50, slower * p50, np.arange(rounds) + 1, batch, 1.5 * batch, slower * batch), path)
        with Image.open(path) as picture:
            drawn.append(np.asarray(picture.convert("L")))
    assert drawn[0].shape == drawn[1].shape
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0] < 128).mean() > 0.005
