"""Regions: what stands out is boxed, like crops share a cluster, and the whole detector learns from it."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from engine.errors import NothingToDo, UsageError
from engine.models.detector import Detector
from engine.pretext.frozen import FrozenBackbone
from engine.pretext.proposals import ProposalConfig, propose_boxes
from engine.pretext.regions import RegionConfig, RegionTask, _describe_turned, find_regions
from engine.pretext.tile_boxes import TileBoxes
from engine.progress import silent
from engine.training.loop import seeded, train

FEW = ProposalConfig(boxes=8, grid=64, colours=(2, 3), least_cells=6)


def network(squares, classes=0, **changes):
    with seeded(0):
        return Detector(squares.TINY.model_copy(update=changes), classes)


def regions(squares, count=6, **changes):
    config = RegionConfig(**{"proposals": FEW, "clusters": 3, "crop": 32} | changes)
    source = squares.samples(count)
    return config, source, find_regions(source, config, network=network(squares), seed=0)


def test_what_stands_out_is_boxed(squares):
    for index in range(6):
        sample = squares.samples(6).sample(index)
        boxes = propose_boxes(sample.image, FEW)
        assert box_iou(sample.boxes, boxes).max(1).values.min() > 0.6


def test_the_box_that_stands_out_most_comes_first(squares):
    image = torch.full((3, 64, 64), 60, dtype=torch.uint8)
    image[:, 5:20, 5:20] = 110
    image[:, 40:55, 40:55] = 250
    boxes = propose_boxes(image, FEW)
    assert box_iou(boxes[:1], torch.tensor([[40.0, 40, 55, 55]])).item() > 0.8


def test_features_decide_what_stands_out_where_there_are_some(squares):
    image = torch.full((3, 64, 64), 60, dtype=torch.uint8)
    image[:, 5:20, 5:20] = 110
    image[:, 40:55, 40:55] = 250
    features = torch.zeros(1, 16, 16)
    features[:, 1:5, 1:5] = 5
    boxes = propose_boxes(image, FEW, features=features)
    assert box_iou(boxes[:1], torch.tensor([[5.0, 5, 20, 20]])).item() > 0.6


def test_one_colour_has_no_regions():
    assert propose_boxes(torch.full((3, 64, 64), 7, dtype=torch.uint8), FEW).shape == (0, 4)


def scene(side=64):
    """Bright squares on even ground, and noise so that no cell is like another."""
    image = torch.from_numpy(np.random.default_rng(1).integers(90, 130, (3, side, side))).to(torch.uint8)
    for left, top in ((6, 30), (24, 8), (26, 34)):
        image[:, top : top + 10, left : left + 10] = 230
    return image


def test_padding_is_no_region_and_nothing_stands_out_of_it():
    canvas = torch.zeros(3, 128, 128, dtype=torch.uint8)
    canvas[:, :60, :48] = scene()[:, :60, :48]
    config = FEW.model_copy(update={"grid": 128, "boxes": 12})
    boxes = propose_boxes(canvas, config)
    assert len(boxes) > 0
    assert boxes[:, 2].max() <= 48
    assert boxes[:, 3].max() <= 60
    assert (boxes[:, 2:] - boxes[:, :2]).max() <= 0.6 * 60
    squares = torch.tensor([[6.0, 30, 16, 40], [24, 8, 34, 18], [26, 34, 36, 44]])
    assert box_iou(squares, boxes[:3]).max(1).values.min() > 0.6


def test_a_corner_without_data_is_no_region():
    image = scene(128)
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    missing = rows + columns > 190
    image[:, missing] = 0
    boxes = propose_boxes(image, FEW.model_copy(update={"grid": 128, "boxes": 30, "colours": (2, 3, 5)}))
    shares = [missing[int(top) : int(bottom), int(left) : int(right)].float().mean() for left, top, right, bottom in boxes.tolist()]
    assert len(shares) > 0
    assert max(shares) <= 0.2


def test_a_dark_thing_inside_the_image_is_a_region():
    image = scene(128)
    image[:, 80:100, 60:90] = 0
    assert box_iou(torch.tensor([[60.0, 80, 90, 100]]), propose_boxes(image, FEW.model_copy(update={"grid": 128}))).max() > 0.7


def test_an_image_without_data_has_no_regions():
    assert propose_boxes(torch.zeros(3, 64, 64, dtype=torch.uint8), FEW).shape == (0, 4)


def test_limits_are_kept(squares):
    config = ProposalConfig(boxes=3, grid=64, colours=(2, 3, 5), least_cells=4, largest=0.5)
    draw = np.random.default_rng(0)
    noise = torch.from_numpy(np.kron(draw.integers(0, 255, (3, 16, 16)), np.ones((1, 4, 4))).astype(np.uint8))
    boxes = propose_boxes(noise, config)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert 0 < len(boxes) <= 3
    assert sides.min() >= 4
    assert sides.max() <= 32
    assert torch.equal(boxes, propose_boxes(noise, config))


def test_like_crops_share_a_cluster(squares):
    _, source, found = regions(squares)
    for cluster in range(3):
        colours = set()
        for index in range(6):
            sample = source.sample(index)
            for box, label in zip(found.boxes[index], found.labels[index], strict=True):
                overlap = box_iou(box[None], sample.boxes)[0]
                if label == cluster and overlap.max() > 0.7:
                    colours.add(int(sample.labels[overlap.argmax()]))
        assert len(colours) < 2


def test_regions_are_kept_in_a_file_until_something_changes(squares, tmp_path):
    _, _, found = regions(squares)
    path = tmp_path / "regions.safetensors"
    assert TileBoxes.load(path, "a") is None
    found.save(path, "a")
    again = TileBoxes.load(path, "a")
    assert all(torch.equal(one, other) for one, other in zip([*again.boxes, *again.labels], [*found.boxes, *found.labels], strict=True))
    assert TileBoxes.load(path, "b") is None


def test_tiles_carry_their_regions(squares):
    _, source, found = regions(squares)
    tiles = found.on(source)
    assert len(tiles) == 6
    assert torch.equal(tiles.sample(2).boxes, found.boxes[2])
    assert torch.equal(tiles.sample(2).image, source.sample(2).image)
    assert tiles.name(2) == source.name(2)


@pytest.mark.parametrize("taught", ["clusters", "embedding", "boxes"])
def test_every_part_of_the_detector_learns(squares, taught):
    config, source, found = regions(squares, taught=taught)
    task = RegionTask(network(squares, config.classes), config)
    tiles = found.on(source)
    loss, parts = task.loss([tiles.sample(0), tiles.sample(1)], torch.Generator().manual_seed(0))
    loss.backward()
    assert ("embedding" in parts) == (taught == "embedding")
    for name, weight in task.model.named_parameters():
        idle = any(part in name for part in ("patch_queries", "level_embedding")) or not weight.requires_grad
        assert idle or weight.grad is not None, name
    run = train(task, tiles, squares.schedule(images_seen=160, batch_size=4), checkpoints=None, progress=silent)
    assert sum(run.losses[-10:]) < 0.8 * sum(run.losses[:10])


def test_moved_regions_are_repaired_where_the_detector_denoises(squares):
    config, source, found = regions(squares)
    task = RegionTask(network(squares, config.classes, denoising_groups=2), config)
    tiles = found.on(source)
    before = task.detector.denoising.content.weight.clone()
    _, parts = task.loss([tiles.sample(0), tiles.sample(1)], torch.Generator().manual_seed(0))
    assert {name.partition("_")[0] for name in parts if "denoising" in name} == {"denoising0", "denoising1"}
    train(task, tiles, squares.schedule(), checkpoints=None, progress=silent)
    assert not torch.equal(before, task.detector.denoising.content.weight)


def test_the_teacher_does_not_learn(squares):
    config, source, found = regions(squares, taught="embedding")
    task = RegionTask(network(squares, 1), config)
    before = [weight.clone() for weight in task._teacher.parameters()]
    train(task, found.on(source), squares.schedule(), checkpoints=None, progress=silent)
    assert all(torch.equal(one, other) for one, other in zip(before, task._teacher.parameters(), strict=True))
    assert not any("teacher" in name for name, _ in task.model.named_parameters())


def test_a_frozen_backbone_stays(squares):
    config, source, found = regions(squares)
    task = RegionTask(network(squares, config.classes), config, freeze_backbone=True)
    task.loss([found.on(source).sample(0)], torch.Generator())[0].backward()
    assert all(weight.grad is None for weight in task.detector.backbone.parameters())


def test_embeddings_need_a_region_stage(squares):
    with pytest.raises(UsageError, match="without a region stage"):
        RegionTask(network(squares, 1, region_stage=0), RegionConfig(taught="embedding"))


def test_more_clusters_than_regions_are_refused(squares):
    with pytest.raises(NothingToDo, match="for 500 clusters"):
        regions(squares, clusters=500)


def test_a_tile_that_cannot_be_read_has_no_regions_and_changes_no_others(squares, fake):
    config, source, found = regions(squares, taught="boxes")
    some = find_regions(fake("training").Torn(source, [0, 4]), config, network=network(squares), seed=0)
    assert [len(each) for each in some.boxes] == [0 if index in (0, 4) else len(each) for index, each in enumerate(found.boxes)]
    assert torch.equal(some.boxes[5], found.boxes[5])
    assert all(len(boxes) == len(labels) for boxes, labels in zip(some.boxes, some.labels, strict=True))


def test_no_readable_tile_has_too_few_regions_for_clusters(squares, fake):
    config, source, _ = regions(squares)
    with pytest.raises(NothingToDo, match="0 regions for 3 clusters"):
        find_regions(fake("training").Torn(source, range(6)), config, network=network(squares), seed=0)


def test_a_region_is_of_one_kind_whichever_way_it_lies(squares):
    teacher = FrozenBackbone(network(squares))
    image = squares.samples(1).sample(0).image.float()[None] / 255
    side = image.shape[-1]
    box = torch.tensor([[8.0, 12, 40, 44]])
    turned = torch.stack([box[:, 1], side - box[:, 2], box[:, 3], side - box[:, 0]], 1)
    upright, lying = (_describe_turned(teacher, *seen, 32) for seen in ((image, [box]), (image.rot90(1, (2, 3)), [turned])))
    assert upright.norm(dim=1).item() == pytest.approx(1, abs=1e-5)
    assert (upright * lying).sum().item() == pytest.approx(1, abs=1e-3)
    config, source, _ = regions(squares, turned=True)
    assert find_regions(source, config, network=network(squares), seed=0).labels[0].max() < 3
