"""Colours: torchvision's adjustments in one map."""

import colorsys

import pytest
import torch
from torchvision.transforms.v2 import functional as transforms

from engine.training.colour import ColourChange, change_colours


@pytest.fixture
def image():
    """Colours far enough from black and white that no change clamps them."""
    return torch.randint(80, 140, (3, 24, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [0.8, 1.2])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_change_is_torchvision_s(image, name, factor):
    expected = getattr(transforms, f"adjust_{name}")(image, factor)
    changed = change_colours(image, ColourChange(**{name: factor}))
    assert (changed.int() - expected.int()).abs().max() <= 1
    assert not torch.equal(changed, image)


def test_together_they_follow_one_another(image):
    expected = transforms.adjust_saturation(transforms.adjust_contrast(transforms.adjust_brightness(image, 1.1), 0.9), 1.2)
    assert (change_colours(image, ColourChange(1.1, 0.9, 1.2)).int() - expected.int()).abs().max() <= 4


def test_the_hue_turns_as_torchvision_s_and_keeps_the_luminance():
    red = torch.tensor([140, 90, 90], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 4)
    luma = torch.tensor([0.299, 0.587, 0.114])
    for turn in (-0.05, 0.05):
        changed, expected = change_colours(red, ColourChange(hue=turn))[:, 0, 0].float(), transforms.adjust_hue(red, turn)[:, 0, 0].float()
        assert torch.dot(changed, luma) == pytest.approx(float(torch.dot(red[:, 0, 0].float(), luma)), abs=1)
        hues = [colorsys.rgb_to_hsv(*(colour / 255).tolist())[0] for colour in (changed, expected)]
        assert (hues[0] - hues[1] + 0.5) % 1 - 0.5 == pytest.approx(0, abs=0.03)


def test_nothing_asked_nothing_changed(image):
    assert torch.equal(change_colours(image, ColourChange()), image)


def test_grey_stays_grey_and_light_stays_in_its_range():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, 16, 16)
    changed = change_colours(grey, ColourChange(1.9, 1.5, 1.5, 0.4)).int()
    assert (changed - changed[:1]).abs().max() <= 1
    assert changed.max() == 255
    assert change_colours(grey, ColourChange(contrast=1.9)).min() == 0
