"""What a training starts from, and how large its detector is."""

import pytest

from engine.catalog.starting import architecture, large_enough
from engine.catalog.tiles import TileRecord
from engine.errors import UsageError
from engine.models.detector import DetectorConfig
from engine.records import Window


def tiles(*sides):
    return [TileRecord(number, 1, "a.tif", Window(0, 0, *side), "train", "0" * 64) for number, side in enumerate(sides, start=1)]


@pytest.mark.parametrize(("sides", "expected"), [([], 320), ([(320, 320)], 320), ([(100, 40), (321, 20)], 352), ([(40, 512)], 512)])
def test_a_detector_that_says_nothing_of_its_size_sees_the_largest_tile(sides, expected):
    assert large_enough(DetectorConfig(), tiles(*sides)).image_size == expected
    assert architecture(DetectorConfig(dimension=64), None, tiles(*sides)).image_size == expected


def test_a_size_that_is_stated_stays():
    assert large_enough(DetectorConfig(image_size=320), tiles((512, 512))).image_size == 320


def test_nothing_that_is_random_stays_as_it_is():
    random = DetectorConfig(backbone_weights="none")
    with pytest.raises(UsageError, match=r"detector.frozen_stages = 3, and no model") as refused:
        architecture(random, None, tiles())
    assert "--set detector.frozen_stages=0" in str(refused.value)
    assert architecture(random.model_copy(update={"frozen_stages": 0}), None, tiles()).backbone_weights == "none"
