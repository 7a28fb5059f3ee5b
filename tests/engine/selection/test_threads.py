"""Every strategy chooses the same batch with one thread and with two, where many tiles are as good as one another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.selection.strategies import STRATEGIES

FAKES = Path(__file__).parents[2] / "fakes"
CHOOSE = """
import dataclasses, json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from choosable import world
from engine.selection.config import SelectionConfig
from engine.selection.rank import rank
from engine.selection.strategies import STRATEGIES

generator = np.random.default_rng(0)
made = world(0, 600)
looks = generator.normal(size=(6, 256))[generator.integers(0, 6, len(made.detections))]
repeated = np.repeat(generator.normal(size=(300, 256)), 2, axis=0)
made = dataclasses.replace(made, embeddings=repeated, detections=dataclasses.replace(made.detections, features=looks))
for strategy in STRATEGIES:
    ranking = rank(made, SelectionConfig(budget_seconds=2500, strategy=strategy))
    print(json.dumps([strategy, [tile.tile_id for tile in ranking.tiles]]))
"""


def chosen(threads: int) -> dict[str, list[int]]:
    """The batch of each strategy in a process that computes with so many threads."""
    count = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), str(threads))
    asked = [sys.executable, "-c", CHOOSE, str(FAKES)]
    said = subprocess.run(asked, env={**os.environ, **count}, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(line) for line in said.splitlines())


@pytest.mark.guarantee("G43")
def test_the_number_of_threads_does_not_matter() -> None:
    alone, together = chosen(1), chosen(2)
    assert set(alone) == set(STRATEGIES)
    assert {strategy for strategy in STRATEGIES if alone[strategy] != together[strategy]} == set()
    assert all(len(batch) > 1 for batch in alone.values())
