"""Pictures of pre-training: the same tiles every time, and what they show is where it was asked."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label

from engine.evaluation.drawing import PALETTE
from engine.models.detector import Detector
from engine.pretext.encoder_tasks import Shown
from engine.pretext.pictures import PretextPictures, encoder_picture, patches_picture, regions_picture
from engine.pretext.plan import PretextConfig, plan_pretext
from engine.pretext.query_patches import FoundPatches
from engine.pretext.region_looks import FoundRegions
from engine.progress import silent
from engine.training.loop import Watch, seeded, train


def planned(squares, *, one_shot=False, **values):
    config = PretextConfig.from_mapping({"patches": squares.PATCHES.model_dump()} | values)
    with seeded(0):
        model = Detector(squares.TINY.model_copy(update={"one_shot": one_shot}), config.classes)
    return plan_pretext(model, config, squares.samples(6), seed=0)


def test_a_row_a_tile_of_what_was_given_wanted_and_answered():
    shown = Shown(*(torch.full((2, 3, 20, 20), value) for value in (0.0, 0.5, 1.0)))
    picture = encoder_picture(shown)
    assert picture.shape == (2 * 26 + 6, 3 * 26 + 6, 3)
    assert [int(picture[16, 16 + 26 * column, 0]) for column in range(3)] == [0, 128, 255]
    assert int(picture[2, 2, 0]) == 24


def test_patches_are_framed_where_they_were_cut_and_where_they_were_found():
    found = FoundPatches(
        torch.zeros(1, 3, 100, 100),
        torch.tensor([[[0.1, 0.1, 0.3, 0.3]]]),
        torch.tensor([[[0.5, 0.5, 0.875, 0.75]]]),
        torch.ones(1, 1, 3, 16, 16),
    )
    picture = patches_picture(found)[6:106, 6:]
    tile, strip = picture[:, :100], picture[:, 106:206]
    lit = np.argwhere(tile.any(2))
    assert lit.min(0).tolist() == [10, 10]
    assert lit.max(0).tolist() == [75, 87]
    assert tile[20, 10].any()
    assert not tile[40, 40].any()
    assert strip[30, 30].tolist() == [255, 255, 255]


def strip(count, side):
    """The right half of a picture of patches that are all white."""
    crops = torch.zeros(1, count, 4)
    found = FoundPatches(torch.zeros(1, 3, side, side), crops, crops, torch.ones(1, count, 3, 16, 16))
    return patches_picture(found)[6 : 6 + side, 12 + side : 12 + 2 * side]


def places(picture):
    """How many squares of white there are."""
    return label((picture == 255).all(2))[1]


@pytest.mark.parametrize(("count", "side"), [(1, 64), (4, 64), (9, 256), (10, 256), (10, 320), (25, 256), (100, 256)])
def test_there_is_room_for_every_patch(count, side):
    assert places(strip(count, side)) == count


def test_patches_keep_their_size_where_all_fit():
    assert [int((strip(count, 256) == 255).all(2).sum()) for count in (1, 4)] == [56 * 56, 4 * 56 * 56]


def test_where_patches_would_be_too_small_to_be_recognised_it_says_how_many_are_shown():
    shown, full = strip(30, 64), strip(9, 64)
    assert places(shown[:54]) == places(full) == 9
    assert not (full[56:] != 24).any()
    assert (shown[56:] > 100).any()


def test_boxes_outside_the_tile_are_drawn_as_far_as_they_go():
    asked, answered = torch.tensor([[[0.1, 0.1, 0.3, 0.3]]]), torch.tensor([[[1.2, -0.5, 0.9, 0.2]]])
    found = FoundPatches(torch.zeros(1, 3, 64, 64), asked, answered, torch.ones(1, 1, 3, 8, 8))
    assert patches_picture(found).shape[0] == 76


def test_a_run_leaves_pictures_of_the_same_tiles(squares, tmp_path):
    pretext = planned(squares, encoder={"task": "mim-continuous"})
    pictures = PretextPictures(pretext, tmp_path, seed=0)
    schedule = squares.schedule(images_seen=16)
    train(pretext.task, pretext.source, schedule, checkpoints=None, progress=silent, watch=Watch(8, pictures))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{kind}-{seen:08d}.png" for kind in ("encoder", "patches") for seen in (8, 16)]
    first, last = (np.asarray(Image.open(tmp_path / name)) for name in names[:2])
    column = slice(6 + 70, 6 + 70 + 64)
    assert np.array_equal(first[:, column], last[:, column])
    assert not np.array_equal(first, last)


@pytest.mark.parametrize("every", [0, 8])
def test_looking_changes_nothing(squares, tmp_path, every):
    pretext = planned(squares)
    pictures = PretextPictures(pretext, tmp_path, seed=0)
    watched = train(pretext.task, pretext.source, squares.schedule(), checkpoints=None, progress=silent, watch=Watch(every, pictures))
    again = planned(squares)
    plain = train(again.task, again.source, squares.schedule(), checkpoints=None, progress=silent)
    assert watched.losses == plain.losses
    assert bool(list(tmp_path.iterdir())) == bool(every)


@pytest.mark.parametrize("taught", ["clusters", "boxes", "look-alikes"])
def test_regions_are_shown_as_they_were_taught_and_as_they_are_found(squares, tmp_path, taught):
    values = {"patches": None, "regions": {"taught": taught, "clusters": 2, "proposals": {"boxes": 4}}, "freeze_backbone": False}
    pretext = planned(squares, one_shot=taught == "look-alikes", **values)
    pictures = PretextPictures(pretext, tmp_path, seed=0)
    schedule = squares.schedule(images_seen=16)
    watched = train(pretext.task, pretext.source, schedule, checkpoints=None, progress=silent, watch=Watch(8, pictures))
    first, last = (np.asarray(Image.open(path)) for path in sorted(tmp_path.iterdir()))
    assert first.shape == (4 * 70 + 6, 2 * 70 + 6, 3)
    assert np.array_equal(first[:, :76], last[:, :76]), "what was taught"
    assert not np.array_equal(first, last), "what is found"
    again = planned(squares, one_shot=taught == "look-alikes", **values)
    assert train(again.task, again.source, schedule, checkpoints=None, progress=silent).losses == watched.losses


def test_taught_and_found_regions_are_framed_in_their_clusters_colours_and_the_query_stands_in_the_corner():
    frame = lambda *box: torch.tensor([box], dtype=torch.float32)  # noqa: E731
    asked = [None, torch.ones(3, 8, 8)]
    taught, found = [(frame(70, 70, 90, 90), torch.tensor([1]))] * 2, [(frame(70, 20, 90, 40), torch.tensor([1]))] * 2
    picture = regions_picture(FoundRegions(torch.zeros(2, 3, 100, 100), taught, found, asked))
    assert picture.shape == (2 * 106 + 6, 2 * 106 + 6, 3)
    left, right = picture[6:106, 6:106], picture[6:106, 112:212]
    assert [np.argwhere(side.any(2)).min(0).tolist() for side in (left, right)] == [[70, 70], [20, 70]]
    assert tuple(left[70, 70]) == tuple(right[20, 70]) == PALETTE[1]
    assert picture[112 + 12, 112 + 12].tolist() == [255, 255, 255]
    assert not picture[112 + 12, 6 + 12].any()


def test_pictures_are_of_tiles_that_can_be_read_and_read_nothing_later(squares, fake, tmp_path):
    pretext = planned(squares)
    torn = fake("training").Torn(squares.samples(6), [0, 1, 2])
    pictures = PretextPictures(pretext._replace(source=torn), tmp_path, seed=0)
    torn.lost.update(range(6))
    pictures(4)
    [path] = tmp_path.iterdir()
    with Image.open(path) as picture:
        assert picture.size[1] == 3 * (64 + 6) + 6


def test_no_readable_tile_is_no_picture(squares, fake, tmp_path):
    PretextPictures(planned(squares)._replace(source=fake("training").Torn(squares.samples(2), [0, 1])), tmp_path, seed=0)(4)
    assert not list(tmp_path.iterdir())
