"""Query patches in memory: every image as it looks to every patch."""

import pytest
import torch

from engine.models.conditioning import QueryCondition
from engine.models.detector import Detector
from engine.training.loop import seeded


@pytest.fixture(scope="module")
def condition():
    with seeded(0):
        return QueryCondition(16, 24)


def test_every_image_once_a_patch_one_image_after_the_other(condition):
    tokens, patches = torch.rand(2, 5, 16), torch.rand(2, 3, 24)
    joined = condition(tokens, patches)
    assert joined.shape == (6, 5, 16)
    for image in range(2):
        for patch in range(3):
            alone = condition(tokens[image : image + 1], patches[image : image + 1, patch : patch + 1])[0]
            assert torch.allclose(joined[3 * image + patch], alone, atol=1e-6)


def test_the_patch_counts_by_its_product_with_what_is_seen(condition):
    """Two tokens differ otherwise under one patch than under another: a sum alone would keep their difference."""
    tokens = torch.rand(1, 2, 16)
    one, other = (condition(tokens, torch.randn(1, 1, 24, generator=torch.Generator().manual_seed(seed)))[0] for seed in (0, 1))
    assert not torch.allclose(one[0] - one[1], other[0] - other[1], atol=1e-3)


@pytest.mark.parametrize("architecture", [{}, {"architecture": "detr", "feature_levels": (4,)}], ids=["deformable", "detr"])
def test_a_detector_answers_each_patch_as_if_it_were_alone(squares, architecture):
    kept = {
        name: getattr(squares.TINY, name) for name in ("backbone", "backbone_weights", "dimension", "heads", "image_size", "patch_slots")
    }
    config = (
        squares.TINY.model_copy(update={"one_shot": True})
        if not architecture
        else type(squares.TINY)(**kept, **architecture, one_shot=True)
    )
    with seeded(0):
        model = Detector(config, 1).eval()
    images, patches = torch.rand(2, 3, 64, 64), torch.rand(2, 2, model.backbone.channels[-1])
    with torch.no_grad():
        memory = model.encode(images)
        together = model.detect(model.asked(memory, patches)).layers[-1]
        alone = model.detect(model.asked(model.encode(images[1:]), patches[1:, 1:])).layers[-1]
    assert together.logits.shape[0] == 4
    assert torch.allclose(together.logits[3], alone.logits[0], atol=1e-4)
    assert torch.allclose(together.boxes[3], alone.boxes[0], atol=1e-4)
    assert not torch.allclose(together.logits[2], together.logits[3], atol=1e-5)
