"""A detector of one example: by the query slots of pre-training, or by all of one that was taught to be asked."""

import numpy as np
import pytest
import torch

from engine.boxes import box_iou
from engine.inference.one_shot import answers, detect_like, patch_feature
from engine.models.detector import Detector
from engine.training.loop import seeded


@pytest.fixture(scope="module")
def model(squares):
    with seeded(0):
        return Detector(squares.TINY, 0).eval()


@pytest.fixture(scope="module")
def images(squares):
    return torch.stack([squares.samples(2).sample(index).image for index in range(2)]).float() / 255


def patches(count, seed=0):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("group", [5, 7, 20])
def test_every_slot_answers_with_a_box_and_a_score(model, images, group):
    found = detect_like(model, images, patch_feature(model, patches(1))[0], group=group)
    assert (found.boxes.shape, found.matched.shape) == ((2, 20, 4), (2, 20))
    assert (found.boxes[..., 2:] > found.boxes[..., :2]).all()
    assert found.matched.min() >= 0
    assert found.matched.max() <= 1


def test_images_do_not_influence_one_another(model, images):
    feature = patch_feature(model, patches(1))[0]
    both, alone = detect_like(model, images, feature), detect_like(model, images[1:], feature)
    assert torch.allclose(both.boxes[1], alone.boxes[0], atol=1e-3)


def test_the_answer_depends_on_the_patch(model, images):
    one, other = (
        detect_like(model, images, feature) for feature in patch_feature(model, torch.stack([patches(1)[0], torch.zeros(3, 32, 32)]))
    )
    assert not torch.allclose(one.matched, other.matched, atol=1e-6)


def test_groups_keep_slots_apart(model, images):
    feature = patch_feature(model, patches(1))[0]
    apart, together = (detect_like(model, images, feature, group=group) for group in (5, 20))
    assert not torch.allclose(apart.matched, together.matched, atol=1e-6)


def test_features_are_those_of_the_last_level_one_a_patch(model):
    found = patch_feature(model, patches(3))
    assert found.shape == (3, model.backbone.channels[-1])
    assert torch.allclose(found[1:2], patch_feature(model, patches(3)[1:2]), atol=1e-5)


@pytest.fixture(scope="module")
def taught(squares):
    with seeded(1):
        return Detector(squares.TINY.model_copy(update={"one_shot": True}), 1).eval()


def test_every_query_has_an_answer_of_its_own_whoever_else_asks(taught, images):
    features = patch_feature(taught, patches(13))
    together = answers(taught, images[0], features)
    assert len(together) == 13
    for number in (0, 9, 12):
        [alone] = answers(taught, images[0], features[number : number + 1])
        assert np.allclose(alone.xyxy, together[number].xyxy, atol=0.05)
        assert np.allclose(alone.scores, together[number].scores, atol=1e-4)
    assert not np.allclose(together[0].scores[:3], together[1].scores[:3], atol=1e-6)


def test_answers_are_boxes_of_the_image_the_best_first_and_none_twice(taught, images):
    features = patch_feature(taught, patches(1))
    [found] = answers(taught, images[0], features, iou_threshold=0.4)
    assert len(found) > 1
    assert (np.diff(found.scores) <= 0).all()
    assert found.xyxy.min() >= 0
    assert found.xyxy.max() <= images.shape[-1]
    overlaps = box_iou(found.xyxy, found.xyxy) - np.eye(len(found))
    assert overlaps.max() <= 0.4 + 1e-5
    [few] = answers(taught, images[0], features, iou_threshold=0.4, most=2)
    assert np.array_equal(few.xyxy, found.xyxy[:2])
