"""The query slots of pre-training as a detector of one example."""

import pytest
import torch

from engine.inference.one_shot import detect_like, patch_feature
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
