"""Patches: cut and joined without loss, hidden or moved as asked, and none asked for that shows a single colour."""

import pytest
import torch

from engine.pretext.patch_grid import choose, content, from_patches, hide, informative, move, to_patches


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=2, side=16):
    return torch.rand(count, 3, side, side, generator=generator(3))


def test_cutting_and_joining_changes_nothing():
    whole = torch.rand(2, 3, 8, 12, generator=generator())
    patches = to_patches(whole, 4)
    assert patches.shape == (2, 6, 3, 4, 4)
    assert torch.equal(patches[1, 4], whole[1, :, 4:8, 4:8])
    assert torch.equal(from_patches(patches, 3), whole)


def test_a_patch_of_one_colour_has_nothing_to_say():
    picture = images(1, 8) + 0.1
    picture[0, :, :4, :4] = torch.tensor([0.2, 0.5, 0.1]).view(3, 1, 1)
    assert informative(to_patches(picture, 4)).tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("darkest", [0.0, 0.07])
def test_padding_is_no_content_whatever_was_done_to_the_light(darkest):
    picture = images(1, 8) + 0.1
    picture[0, :, 3:] = darkest
    picture[0, :, :, 7:] = darkest
    held = content(to_patches(picture, 4))
    assert held[0, 0].tolist() == [[True] * 4] * 3 + [[False] * 4]
    assert held[0, 1].sum() == 9
    assert informative(to_patches(picture, 4)).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize(("share", "expected"), [(0.0, [0, 0]), (0.5, [5, 2]), (1.0, [10, 4])])
def test_a_share_of_the_candidates_is_chosen(share, expected):
    candidates = torch.zeros(2, 12, dtype=torch.bool)
    candidates[0, 2:], candidates[1, :4] = True, True
    chosen = choose(candidates, share, generator())
    assert chosen.sum(1).tolist() == expected
    assert not (chosen & ~candidates).any()


def test_every_candidate_is_chosen_as_often():
    candidates = torch.ones(4000, 6, dtype=torch.bool)
    assert torch.allclose(choose(candidates, 0.5, generator()).float().mean(0), torch.full((6,), 0.5), atol=0.03)


def test_too_few_are_none():
    assert choose(torch.ones(1, 10, dtype=torch.bool), 0.1, generator(), least=2).sum() == 0


def test_what_is_hidden_has_the_colour_given_and_the_rest_is_as_it_was():
    whole, chosen = images(), torch.zeros(2, 16, dtype=torch.bool)
    chosen[0, 5] = True
    hidden = hide(whole, chosen, torch.tensor([0.1, 0.2, 0.3]), 4)
    assert torch.allclose(hidden.images[0, :, 4:8, 4:8], torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1).expand(3, 4, 4))
    assert torch.equal(hidden.images[1], whole[1])
    assert hidden.origin[0].tolist() == list(range(16))


def test_every_chosen_patch_moves_and_no_other():
    whole = images(3)
    chosen = choose(torch.ones(3, 16, dtype=torch.bool), 0.5, generator(), least=2)
    moved = move(whole, chosen, 4, generator(1))
    places = torch.arange(16)
    assert torch.equal(moved.origin != places, chosen)
    assert all(sorted(row) == list(range(16)) for row in moved.origin.tolist())
    before, after = to_patches(whole, 4), to_patches(moved.images, 4)
    for image in range(3):
        assert torch.equal(after[image], before[image, moved.origin[image]])
