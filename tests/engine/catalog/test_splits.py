import hashlib
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.catalog.splits import SplitConfig, decide, regions, split_of_scene, split_of_tile
from engine.errors import UsageError
from engine.records import Window

FROZEN = [
    (Window(x=0, y=0, width=2299, height=1792), "train"),
    (Window(x=0, y=1792, width=1344, height=680), "test"),
    (Window(x=1344, y=1792, width=955, height=680), "dev"),
]


def overlap_area(a: Window, b: Window) -> int:
    wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    high = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(wide, 0) * max(high, 0)


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@st.composite
def scenes(draw):
    tile = draw(st.integers(8, 48))
    overlap = draw(st.integers(0, tile - 1).map(lambda wanted: min(wanted, tile * 3 // 4)))
    config = SplitConfig(
        dev_share=draw(st.sampled_from([0.0, 0.1, 0.3])),
        test_share=draw(st.sampled_from([0.0, 0.2, 0.5])),
        block_size=draw(st.sampled_from([64, 200, 4096])),
        mode=draw(st.sampled_from(["scene", "block"])),
    )
    width, height = draw(st.integers(1, 600)), draw(st.integers(1, 600))
    return key(draw(st.integers(0, 1000))), width, height, decide(config, scenes=1, tile=tile, overlap=overlap)


@pytest.mark.guarantee("G42")
@given(scene=scenes(), first=st.tuples(*[st.integers(0, 599)] * 4), second=st.tuples(*[st.integers(0, 599)] * 4))
def test_two_tiles_of_different_splits_never_share_a_pixel(scene, first, second):
    content_hash, width, height, config = scene
    ground = regions(content_hash, width, height, config)
    a, b = (Window(x % width, y % height, 1 + w % (width - x % width), 1 + h % (height - y % height)) for x, y, w, h in (first, second))
    assume(overlap_area(a, b) > 0)
    splits = {split_of_tile(a, ground), split_of_tile(b, ground)} - {"none"}
    assert len(splits) <= 1


@given(scene=scenes())
def test_regions_cover_the_scene_without_overlapping(scene):
    content_hash, width, height, config = scene
    parts = [window for window, _ in regions(content_hash, width, height, config)]
    assert sum(part.width * part.height for part in parts) == width * height
    assert all(min(part.width, part.height) > 0 and part.x + part.width <= width and part.y + part.height <= height for part in parts)
    assert all(overlap_area(a, b) == 0 for i, a in enumerate(parts) for b in parts[:i])


@pytest.mark.guarantee("G42")
def test_regions_stay_where_they_are_from_version_to_version():
    """Moving them would turn test ground of existing workspaces into train ground: this needs a new rule beside the old one instead."""
    config = decide(SplitConfig(), scenes=3, tile=320, overlap=64)
    assert regions(key(1), 2299, 2472, config) == FROZEN


@pytest.mark.parametrize(("width", "height"), [(1000, 1000), (1249, 1035), (2299, 2472), (1400, 500), (6144, 6144), (20000, 3000)])
@pytest.mark.parametrize("overlap", [0, 32, 64])
def test_carving_meets_the_shares_and_loses_few_tiles(fake, width, height, overlap):
    config = decide(SplitConfig(), scenes=2, tile=320, overlap=overlap)
    windows = fake("catalog").grid(width, height, 320, overlap)
    total = Counter()
    for number in range(20):
        ground = regions(key(number), width, height, config)
        count = Counter(split_of_tile(window, ground) for window in windows)
        assert count["train"] >= 0.4 * len(windows)
        assert count["none"] <= (len(windows) / 3 if overlap else len(windows) / 6)
        assert count["test"] + count["dev"] > 0
        total += count
    kept = total.total() - total["none"]
    assert 0.12 <= total["test"] / kept <= 0.42
    assert 0.05 <= total["dev"] / kept <= 0.25


def test_a_scene_of_a_few_tiles_has_one_split():
    config = decide(SplitConfig(), scenes=2, tile=320, overlap=64)
    found = {regions(key(number), 400, 400, config)[0][1] for number in range(50)}
    assert found == {"train", "dev", "test"}
    assert all(len(regions(key(number), 400, 400, config)) == 1 for number in range(50))


def test_the_splits_of_many_scenes_meet_the_shares():
    count = Counter(split_of_scene(key(number), SplitConfig()) for number in range(5000))
    assert count["test"] / 5000 == pytest.approx(0.2, abs=0.02)
    assert count["dev"] / 5000 == pytest.approx(0.1, abs=0.02)


def test_another_salt_shares_scenes_out_differently():
    plain, salted = ([split_of_scene(key(n), SplitConfig(salt=salt)) for n in range(50)] for salt in ("", "other"))
    assert plain != salted


@pytest.mark.parametrize(
    ("asked", "scenes", "mode"), [("auto", 19, "block"), ("auto", 20, "scene"), ("scene", 1, "scene"), ("block", 500, "block")]
)
def test_auto_is_settled_by_the_number_of_scenes(asked, scenes, mode):
    assert decide(SplitConfig(mode=asked), scenes=scenes, tile=320, overlap=0).mode == mode


def test_shares_of_zero_leave_everything_to_training():
    config = decide(SplitConfig(dev_share=0, test_share=0), scenes=1, tile=32, overlap=0)
    assert {split for _, split in regions(key(1), 640, 640, config)} == {"train"}


@settings(max_examples=30)
@given(scene=scenes())
def test_without_a_test_share_no_ground_is_test(scene):
    content_hash, width, height, config = scene
    config = config.model_copy(update={"test_share": 0.0})
    assert "test" not in {split for _, split in regions(content_hash, width, height, config)}


def test_a_window_on_no_ground_has_no_split():
    assert split_of_tile(Window(10, 0, 5, 5), [(Window(0, 0, 10, 10), "train")]) == "none"


@pytest.mark.parametrize(
    "values",
    [{"dev_share": 0.5, "test_share": 0.5}, {"test_share": -0.1}, {"block_size": 0}, {"tile": 10, "overlap": 10}, {"mode": "random"}],
)
def test_impossible_rules_are_refused(values):
    with pytest.raises(UsageError):
        SplitConfig.from_mapping(values)


def test_an_undecided_rule_carves_nothing():
    with pytest.raises(ValueError, match="not decided"):
        regions(key(1), 100, 100, SplitConfig())
