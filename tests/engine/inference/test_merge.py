import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.boxes import Boxes, box_iou
from engine.errors import UsageError
from engine.inference.merge import MergeRules, merge_windows
from engine.records import Window

TILE, OVERLAP = 64, 24
WIDTH, HEIGHT = 224, 144


def grid(tile=TILE, overlap=OVERLAP, width=WIDTH, height=HEIGHT):
    def starts(extent):
        last = extent - tile
        return sorted({*range(0, last, tile - overlap), last})

    return [Window(x, y, tile, tile) for y in starts(height) for x in starts(width)]


def seen_by(window, boxes):
    """What a detector without fault reports of ``boxes`` in ``window``: the visible part of each."""
    return boxes.visible_in(window.xyxy, 1e-9)


def merged(boxes, windows=None, rules=None):
    windows = grid() if windows is None else windows
    return merge_windows([(window, seen_by(window, boxes)) for window in windows], WIDTH, HEIGHT, rules)


def same(a, b):
    return np.array_equal(a.xyxy, b.xyxy) and np.array_equal(a.labels, b.labels) and np.array_equal(a.scores, b.scores)


def boxes_of(*rows, labels=None, scores=None):
    return Boxes(np.array(rows), labels or [0] * len(rows), scores or [0.9] * len(rows))


@st.composite
def separate_objects(draw, largest=OVERLAP - 8, count=12):
    """Objects on a grid of quarters of a pixel, no two with an IoU of 0.4 or more, in two classes."""
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    kept = np.zeros((0, 4))
    for _ in range(count):
        side = generator.integers(8, 4 * largest + 1, 2) / 4
        corner = generator.integers(0, 4 * (np.array([WIDTH, HEIGHT]) - side) + 1) / 4
        candidate = np.concatenate([corner, corner + side])[None]
        if not (box_iou(candidate, kept) >= 0.4).any():
            kept = np.concatenate([kept, candidate])
    scores = 0.3 + 0.01 * generator.permutation(len(kept))
    return Boxes(kept, generator.integers(0, 2, len(kept)), scores)


@settings(max_examples=150, deadline=None)
@given(objects=separate_objects())
def test_an_object_wholly_inside_some_window_comes_out_exactly_once_and_unmoved(objects):
    by_score = np.argsort(-objects.scores)
    assert same(merged(objects), objects.take(by_score))


@settings(max_examples=50, deadline=None)
@given(objects=separate_objects(largest=60), order=st.randoms(use_true_random=False))
def test_the_order_of_windows_and_of_boxes_makes_no_difference(objects, order):
    found = [(window, seen_by(window, objects)) for window in grid()]
    shuffled = []
    for window, boxes in order.sample(found, len(found)):
        shuffled.append((window, boxes.take(np.array(order.sample(range(len(boxes)), len(boxes)), dtype=np.int64))))
    assert same(merge_windows(shuffled, WIDTH, HEIGHT), merge_windows(found, WIDTH, HEIGHT))


@settings(max_examples=50, deadline=None)
@given(objects=separate_objects(largest=60), dx=st.integers(1, 500), dy=st.integers(1, 500))
def test_moving_the_windows_inside_a_larger_scene_moves_the_result(objects, dx, dy):
    wide, high = 3000, 3000
    inner = [(Window(w.x + 1000, w.y + 1000, w.width, w.height), seen_by(w, objects).shifted(1000, 1000)) for w in grid()]
    moved = [(Window(w.x + dx, w.y + dy, w.width, w.height), boxes.shifted(dx, dy)) for w, boxes in inner]
    assert same(merge_windows(moved, wide, high), merge_windows(inner, wide, high).shifted(dx, dy))


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([30.0, 10.0, 110.0, 30.0], id="over three windows in a row"),
        pytest.param([10.0, 20.0, 30.0, 140.0], id="over all windows in a column"),
        pytest.param([20.0, 20.0, 180.0, 130.0], id="larger than a window both ways"),
        pytest.param([0.0, 0.0, 224.0, 144.0], id="the whole scene"),
    ],
)
@pytest.mark.parametrize("overlap", [0, 8, 24])
def test_an_object_larger_than_the_overlap_is_put_together_again(box, overlap):
    result = merged(boxes_of(box, scores=[0.8]), grid(overlap=overlap))
    assert same(result, boxes_of(box, scores=[0.8]))


def test_the_neighbours_whole_box_wins_over_a_cut_one_with_a_higher_score():
    left, right = Window(0, 0, 64, 64), Window(40, 0, 64, 64)
    found = [(left, boxes_of([50, 10, 64, 30], scores=[0.99])), (right, boxes_of([50, 10, 70, 30], scores=[0.4]))]
    assert same(merge_windows(found, 104, 64), boxes_of([50, 10, 70, 30], scores=[0.4]))


def test_a_small_sliver_at_the_seam_does_not_survive_beside_the_whole_box():
    left, right = Window(0, 0, 64, 64), Window(40, 0, 64, 64)
    found = [(left, boxes_of([62, 11, 64, 29])), (right, boxes_of([60.5, 10, 80, 30]))]
    assert merge_windows(found, 104, 64).xyxy.tolist() == [[60.5, 10, 80, 30]]


def test_at_the_border_of_the_scene_nothing_counts_as_cut():
    found = [
        (Window(0, 0, 64, 64), boxes_of([0, 10, 20, 20])),
        (Window(0, 2, 64, 64), boxes_of([5, 7, 50, 58])),
    ]
    assert len(merge_windows(found, 64, 66)) == 2


def test_only_a_neighbour_can_overrule_a_cut_box():
    found = [(Window(0, 0, 64, 64), boxes_of([10, 10, 59, 50], [46, 20, 64, 30]))]
    assert len(merge_windows(found, 64, 64)) == len(merge_windows(found, 104, 64)) == 2


def test_a_whole_box_wins_over_a_stronger_cut_one_that_it_does_not_cover():
    found = [
        (Window(0, 0, 64, 64), boxes_of([50, 8, 64, 36], scores=[0.99])),
        (Window(40, 0, 64, 64), boxes_of([50, 10, 66, 28], scores=[0.4])),
    ]
    assert merge_windows(found, 104, 64).xyxy.tolist() == [[50, 10, 66, 28]]


def test_a_weak_duplicate_of_a_part_does_not_stretch_the_whole():
    found = [
        (Window(0, 0, 64, 64), boxes_of([20, 10, 64, 30], [22, 12, 64, 33], scores=[0.9, 0.5])),
        (Window(40, 0, 64, 64), boxes_of([40, 10, 90, 30])),
    ]
    assert merge_windows(found, 104, 64).xyxy.tolist() == [[20, 10, 90, 30]]


def test_a_joined_object_has_the_highest_score_of_its_parts():
    found = [
        (Window(0, 0, 64, 64), boxes_of([20, 10, 64, 30], scores=[0.5])),
        (Window(40, 0, 64, 64), boxes_of([40, 10, 90, 30], scores=[0.7])),
    ]
    assert same(merge_windows(found, 104, 64), boxes_of([20, 10, 90, 30], scores=[0.7]))


def test_cut_boxes_that_disagree_on_the_common_ground_stay_two_objects():
    found = [(Window(0, 0, 64, 64), boxes_of([20, 10, 64, 20])), (Window(40, 0, 64, 64), boxes_of([40, 40, 90, 50]))]
    assert len(merge_windows(found, 104, 64)) == 2


def test_objects_of_two_classes_never_suppress_each_other():
    assert len(merged(boxes_of([10, 10, 20, 20], [10, 10, 20, 20], labels=[0, 1]))) == 2


def test_duplicates_in_one_window_leave_the_best():
    window = Window(0, 0, 64, 64)
    found = [(window, boxes_of([10, 10, 30, 30], [11, 10, 31, 30], [40, 40, 50, 50], scores=[0.6, 0.8, 0.5]))]
    assert merge_windows(found, 64, 64).xyxy.tolist() == [[11, 10, 31, 30], [40, 40, 50, 50]]


def test_what_lies_outside_its_window_is_clipped_to_it():
    found = [(Window(0, 0, 64, 64), boxes_of([-5, 10, 20, 30], [70, 70, 80, 80]))]
    assert merge_windows(found, 64, 64).xyxy.tolist() == [[0, 10, 20, 30]]


@pytest.mark.parametrize("found", [[], [(Window(0, 0, 64, 64), Boxes.empty(scored=True))]])
def test_nothing_found_is_an_empty_scored_set(found):
    result = merge_windows(found, 64, 64)
    assert len(result) == 0
    assert result.scores is not None


def test_suppression_agrees_with_the_plain_greedy_algorithm():
    generator = np.random.default_rng(3)
    corner = generator.uniform(0, 90, (300, 2))
    boxes = Boxes(np.concatenate([corner, corner + generator.uniform(2, 38, (300, 2))], 1), np.zeros(300), generator.permutation(300) / 300)
    alive = list(np.argsort(-boxes.scores))
    kept = []
    while alive:
        best = alive.pop(0)
        kept.append(best)
        iou = box_iou(boxes.xyxy[[best]], boxes.xyxy[alive])[0]
        alive = [index for index, overlap in zip(alive, iou, strict=True) if overlap < 0.5]
    assert same(merge_windows([(Window(0, 0, 128, 128), boxes)], 128, 128), boxes.take(np.array(kept)))


@pytest.mark.parametrize(
    ("name", "value"),
    [*itertools.product(["iou_threshold", "cover_threshold", "agreement_threshold"], [0.0, 1.01, float("nan")]), ("edge_margin", 0.0)],
)
def test_an_impossible_rule_is_refused(name, value):
    with pytest.raises(UsageError, match=name):
        MergeRules(**{name: value})
