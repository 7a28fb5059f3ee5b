"""A closer look: quarters cover the tile, what several looks found is there once, and cut boxes are left to the others."""

import pytest
import torch

from engine.inference.predict import TilePrediction, predict_tiles
from engine.inference.quarters import joined_looks, quarters
from engine.models.detector import Detections, Layer
from engine.models.encoder import Memory
from engine.progress import silent

SIZE = 64


def look(boxes, scores, features=None):
    """One class; features number the boxes."""
    boxes, scores = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores, dtype=torch.float32)
    strong = scores >= 0.1
    own = torch.arange(len(boxes), dtype=torch.float32)[:, None] if features is None else torch.tensor(features)[:, None]
    return TilePrediction(
        boxes, torch.zeros(len(boxes), dtype=torch.int64), scores[:, None], torch.zeros(len(boxes)), torch.zeros(1), features=own[strong]
    )


def joined(whole, parts, extent=(SIZE, SIZE)):
    windows = quarters(torch.zeros(3, SIZE, SIZE))[1]
    nothing = look([], [])
    return joined_looks(whole, [*parts, *[nothing] * (4 - len(parts))], windows, torch.tensor(extent), 0.5)


def test_quarters_overlap_and_are_enlarged():
    image = torch.arange(SIZE, dtype=torch.float32).expand(3, SIZE, SIZE)
    parts, windows = quarters(image)
    assert parts.shape == (4, 3, SIZE, SIZE)
    assert windows.tolist() == [[0, 0, 40, 40], [24, 0, 64, 40], [0, 24, 40, 64], [24, 24, 64, 64]]
    assert parts[0, 0, 0, 0] == 0
    assert parts[1, 0, 0, 0] == 24
    assert parts[3, 0, 0, -1] == 63


def test_an_object_seen_by_whole_and_part_is_there_once_with_the_better_look():
    whole, part = look([[4, 4, 12, 12]], [0.5]), look([[6.4, 6.4, 19.2, 19.2]], [0.9], [7.0])
    boxes, labels, scores, drift, features = joined(whole, [part])
    assert boxes.tolist() == [pytest.approx([4, 4, 12, 12])]
    assert scores.tolist() == [[pytest.approx(0.9)]]
    assert features.tolist() == [[7.0]]
    assert labels.shape == drift.shape == (1,)


def test_what_ends_at_an_inner_edge_is_left_to_the_others_and_at_the_tile_s_edge_is_not():
    part = look([[50, 10, 64, 30], [0, 10, 14, 30], [20, 20, 30, 30]], [0.9, 0.8, 0.7])
    boxes = joined(look([], []), [part])[0]
    assert boxes[:, 0].tolist() == [0, pytest.approx(12.5)]


def test_nothing_is_found_outside_the_tile():
    part = look([[10, 10, 30, 30], [50, 50, 60, 60]], [0.9, 0.8])
    found = joined(look([], []), [look([], []), look([], []), look([], []), part], extent=(40, 40))[0]
    assert found.tolist() == [pytest.approx([24 + 6.25, 24 + 6.25, 40, 40])]


def test_weak_boxes_have_no_features():
    features = joined(look([[0, 0, 9, 9], [20, 20, 29, 29]], [0.9, 0.05]), [])[4]
    assert features.tolist() == [[0.0]]


class Crowded:
    """Says an object in the middle of every picture, with both of its queries; of a bright picture only one."""

    num_classes = 1
    config = type("Config", (), {"dimension": 3, "num_queries": 2})()

    def parameters(self):
        return iter([torch.zeros(1)])

    def __call__(self, images):
        boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.25, 0.5, 0.1, 0.1]]]).repeat(len(images), 1, 1)
        second = torch.where(images.mean((1, 2, 3)) > 0.5, 0.01, 0.8)
        scores = torch.stack([torch.full((len(images),), 0.9), second], 1)[..., None]
        return Detections([Layer(scores.logit(), boxes)], None, Memory(images.flatten(2).transpose(1, 2), [(SIZE, SIZE)]))


@pytest.mark.parametrize(("split", "boxes"), [(False, [2, 1]), (True, [10, 1])])
def test_only_crowded_tiles_are_looked_at_again(split, boxes):
    tiles = [(1, torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)), (2, torch.full((3, SIZE, SIZE), 255, dtype=torch.uint8))]
    found = predict_tiles(
        Crowded(), iter(tiles), 2, batch_size=2, score_threshold=0.1, iou_threshold=0.5, progress=silent, split_saturated=split
    )
    assert [len(found.of_tile(tile)) for tile in (1, 2)] == boxes
    assert found.saturated.tolist() == [True, False]
    assert len(found.features) == len(found.scores)
