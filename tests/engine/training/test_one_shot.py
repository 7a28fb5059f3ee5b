"""One-shot detection as a task: what is asked for, with which patch, and that the patch decides the answer."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from engine.boxes import Boxes
from engine.errors import Cancelled, NothingToDo, UsageError
from engine.inference.one_shot import detect_like, patch_feature
from engine.models.detector import Detector
from engine.progress import silent
from engine.records import Ground, Window
from engine.training.data import TileSamples, step_generator
from engine.training.loop import seeded, train
from engine.training.one_shot import OneShotConfig, OneShotTask, QueryBank, cut

SIDE = 32


def made(squares, classes=1, **changes):
    with seeded(0):
        return Detector(squares.TINY.model_copy(update={"one_shot": True} | changes), classes)


def colours(patch):
    """Mean red and green."""
    return patch[:2].mean((1, 2)).tolist()


def test_a_patch_shows_an_object_of_its_class(squares):
    bank = QueryBank(squares.samples(6), SIDE)
    assert bank.classes == [0, 1]
    for label in bank.classes:
        for step in range(8):
            red, green = colours(bank.draw(label, step_generator(0, step)))
            assert (red > green) == (label == 0)


def test_reading_the_objects_can_be_seen_and_stopped(squares, stop_at):
    told = []
    QueryBank(squares.samples(3), SIDE, progress=lambda done, total, message: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled):
        QueryBank(squares.samples(3), SIDE, progress=stop_at(2))


def test_a_patch_comes_from_another_tile_if_there_is_one(squares):
    source = squares.samples(3)
    bank = QueryBank(source, SIDE)
    asked = []

    class Noted:
        def sample(self, index):
            asked.append(index)
            return source.sample(index)

    bank._source = Noted()
    for step in range(20):
        bank.draw(0, step_generator(0, step), other_than=1)
    assert 1 not in asked
    assert len(set(asked)) > 1
    alone = QueryBank(squares.samples(1), SIDE)
    assert alone.draw(0, step_generator(0, 0), other_than=0).shape == (3, SIDE, SIDE)


def brightness(patch):
    return round(float(patch[0, SIDE // 2, SIDE // 2]) * 255)


class OnGround:
    """Tiles of one scene, 64 px wide, that begin at ``lefts``; every object is a square of its own brightness.

    Args:
        lefts: where each tile begins; None for one of which that is not known.
        objects: left edge in the scene, and brightness; each 16 px wide, of class 0.
    """

    def __init__(self, lefts, objects):
        pixels = np.zeros((64, 400, 3), np.uint8)
        for left, value in objects:
            pixels[20:36, left : left + 16] = value
        boxes = Boxes(np.array([[left, 20, left + 16, 36] for left, _ in objects]), np.zeros(len(objects), np.int64))
        windows = [Window(left or 0, 0, 64, 64) for left in lefts]
        shown = [boxes.visible_in(window.xyxy, 0.4).shifted(-window.x, 0) for window in windows]
        self.tiles = TileSamples([pixels[:, window.x : window.x + 64] for window in windows], shown, 64)
        self.grounds = [Ground(1, window) if left is not None else None for left, window in zip(lefts, windows, strict=True)]

    def __len__(self):
        return len(self.tiles)

    def sample(self, index):
        return self.tiles.sample(index)._replace(ground=self.grounds[index])

    def name(self, index):
        return self.tiles.name(index)


def drawn(source, tile):
    bank = QueryBank(source, SIDE)
    return {brightness(bank.draw(0, step_generator(0, step), other_than=tile)) for step in range(40)}


def test_an_object_is_no_query_for_a_neighbouring_tile_that_shows_it_too(squares):
    objects = [(40, 90), (300, 200)]
    assert drawn(OnGround([0, 32, 280], objects), 0) == {200}
    assert drawn(OnGround([0, 32, 280], objects), 2) == {90}
    assert drawn(OnGround([None, 32, 280], objects), 0) == {90, 200}, "nobody knows where the first tile lies"


def test_a_neighbour_lends_what_only_it_shows(squares):
    assert drawn(OnGround([0, 32], [(40, 90), (72, 200)]), 0) == {200}


def test_the_other_half_of_an_object_that_a_border_cuts_is_no_query(squares):
    assert drawn(OnGround([0, 64], [(56, 90), (100, 200)]), 0) == {200}


def test_where_every_object_of_a_class_lies_on_the_tiles_ground_any_of_them_is_drawn(squares):
    assert drawn(OnGround([0, 32], [(36, 90)]), 1) == {90}


def test_without_grounds_the_draws_are_a_function_of_the_tiles_order_alone(squares):
    source = squares.samples(5)
    bank = QueryBank(source, SIDE)
    every = [(tile, box) for tile in range(5) for box, label in zip(*source.sample(tile)[1:3], strict=True) if label == 1]
    for step in range(20):
        elsewhere = [entry for entry in every if entry[0] != step % 5]
        tile, box = elsewhere[int(torch.randint(len(elsewhere), (1,), generator=step_generator(3, step)))]
        expected = cut(source.sample(tile).image, box[None], SIDE)[0]
        patch = bank.draw(1, step_generator(3, step), other_than=step % 5)
        turned = [expected.rot90(turns, (1, 2)) for turns in range(4)]
        assert any(torch.equal(patch, each) for each in [*turned, *(each.flip(2) for each in turned)])


def test_patches_come_in_all_orientations(squares):
    image = squares.samples(1).sample(0).image
    image = torch.arange(64, dtype=torch.uint8).repeat(3, 64, 1) + torch.arange(0, 128, 2, dtype=torch.uint8).view(1, 64, 1)
    source = TileSamples([image.permute(1, 2, 0).numpy()], [Boxes(torch.tensor([[8, 8, 40, 40]]).numpy(), torch.tensor([0]).numpy())], 64)
    bank = QueryBank(source, 16)
    seen = {tuple(bank.draw(0, step_generator(0, step)).flatten().mul(100).round().tolist()) for step in range(80)}
    assert len(seen) == 8


def test_small_boxes_are_never_asked_for():
    small = TileSamples(
        [torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()], [Boxes(torch.tensor([[0, 0, 7, 20]]).numpy(), torch.tensor([0]).numpy())], 64
    )
    with pytest.raises(NothingToDo, match="no object to ask for"):
        QueryBank(small, SIDE)


def test_the_share_of_absent_queries_is_as_told(squares):
    source = squares.samples(6)
    bank = QueryBank(source, SIDE)
    only_red = [sample for index in range(6) if set((sample := source.sample(index)).labels.tolist()) == {0}]
    both = [sample for index in range(6) if set((sample := source.sample(index)).labels.tolist()) == {0, 1}]
    assert both
    for absent, expected in ((0.0, {0}), (0.5, {0, 1})):
        task = OneShotTask(made(squares), bank, OneShotConfig(absent=absent, queries=1))
        for sample in only_red:
            asked = {task._asked_for(sample, step_generator(0, step))[0] for step in range(30)}
            assert asked == expected
    task = OneShotTask(made(squares), bank, OneShotConfig(absent=0.0, queries=2))
    assert all(sorted(task._asked_for(both[0], step_generator(0, step))) == [0, 1] for step in range(10))


def test_the_loss_is_the_same_for_the_same_generator_and_reaches_the_condition(squares):
    source = squares.samples(3)
    batch = [source.sample(index)._replace(tile=index) for index in range(3)]
    model = made(squares)
    task = OneShotTask(model, QueryBank(source, SIDE), OneShotConfig())
    values = [float(task.loss(batch, step_generator(0, 4))[0].detach()) for _ in range(2)]
    assert values[0] == values[1]
    task.loss(batch, step_generator(0, 4))[0].backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.condition.parameters())


@pytest.mark.parametrize(("one_shot", "classes"), [(False, 1), (True, 2), (True, 0)])
def test_only_a_detector_that_is_asked_can_learn(squares, one_shot, classes):
    with pytest.raises(UsageError, match="one_shot"):
        OneShotTask(made(squares, classes, one_shot=one_shot), QueryBank(squares.samples(2), SIDE), OneShotConfig())


def test_the_patch_decides_which_squares_are_found(squares):
    source = squares.samples(8)
    model = made(squares)
    task = OneShotTask(model, QueryBank(source, SIDE), OneShotConfig(patch_size=SIDE, absent=0.1))
    train(task, source, squares.schedule(images_seen=480, batch_size=4, learning_rate=3e-3), checkpoints=None, progress=silent)
    right = asked = 0
    for index in range(8):
        sample, other = source.sample(index), source.sample((index + 1) % 8)
        for label in sorted(set(sample.labels.tolist()) & set(other.labels.tolist())):
            feature = patch_feature(model, cut(other.image, other.boxes[other.labels == label][:1], SIDE))[0]
            found = detect_like(model, sample.image[None].float() / 255, feature)
            best = box_iou(found.boxes[0, found.matched[0].argmax()][None], sample.boxes)[0]
            right += bool(best.max() > 0.5) and int(sample.labels[best.argmax()]) == label
            asked += 1
    assert asked >= 8
    assert right / asked >= 0.8
