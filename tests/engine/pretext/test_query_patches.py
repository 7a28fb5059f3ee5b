"""Random query patch detection: crops, patches, groups that are blind to one another, and a loss that falls."""

import math

import pytest
import torch

from engine.errors import UsageError
from engine.models.detector import Detector, DetectorConfig
from engine.models.queries import block_mask
from engine.pretext.query_patches import PatchConfig, QueryPatchTask, augment_patches, sample_crops
from engine.progress import silent
from engine.training.loop import seeded, train

DENSE = DetectorConfig(
    architecture="detr",
    backbone="test_efficientnet",
    backbone_weights="none",
    feature_levels=(4,),
    frozen_stages=0,
    dimension=32,
    heads=4,
    feedforward=64,
    patch_slots=20,
    image_size=64,
)
PLAIN = {"colour_jitter": 0.0, "grey": 0.0, "query_dropout": 0.0, "patch_size": 32}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def task(squares, **changes):
    with seeded(0):
        return QueryPatchTask(Detector(squares.TINY, 0), PatchConfig(**{"patches": 4} | PLAIN | changes))


def test_crops_lie_in_the_image_and_have_the_sizes_asked_for():
    config = PatchConfig(patches=500, scale=(0.05, 0.5), aspect=2.0)
    crops = sample_crops(torch.rand(2, 3, 64, 64), config, generator())
    assert crops.shape == (2, 500, 4)
    corners = torch.cat([crops[..., :2] - crops[..., 2:] / 2, crops[..., :2] + crops[..., 2:] / 2], -1)
    assert corners.min() >= -1e-6
    assert corners.max() <= 1 + 1e-6
    side = crops[..., 2:].prod(-1).sqrt()
    ratio = crops[..., 2] / crops[..., 3]
    assert side.min() >= 0.05 - 1e-6
    assert side.max() <= 0.5 + 1e-6
    assert ratio.min() >= 0.5 - 1e-6
    assert ratio.max() <= 2 + 1e-6
    assert side.log().median().item() == pytest.approx(math.log(math.sqrt(0.05 * 0.5)), abs=0.2)


def test_crops_are_not_cut_out_of_padding():
    images = torch.zeros(2, 3, 128, 128)
    images[0, :, :, :64] = torch.rand(3, 128, 64, generator=generator())
    crops = sample_crops(images, PatchConfig(patches=200, scale=(0.05, 0.3)), generator())
    assert crops[..., 0][0].max() < 0.6, "in the half that shows something"
    assert crops[..., 0][1].max() > 0.8, "where there is nothing but padding any place is as good"


def test_a_backbone_that_learns_does_so_by_the_patches_too(squares):
    config = PatchConfig(patches=2, patch_size=32)
    learning, frozen = (QueryPatchTask(Detector(squares.TINY, 0), config, freeze_backbone=each) for each in (False, True))
    images, crops = torch.rand(1, 3, 64, 64), torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.3, 0.3, 0.4, 0.4]]])
    assert learning.describe(images, crops, generator()).requires_grad
    assert not frozen.describe(images, crops, generator()).requires_grad


def test_whole_images_are_crops_too():
    crops = sample_crops(torch.rand(1, 3, 64, 64), PatchConfig(patches=20, scale=(1.0, 1.0)), generator())
    assert crops[..., 2:].max() <= 1
    assert crops[..., 2:].min() > 0.7


@pytest.mark.parametrize("scale", [(0.5, 0.05), (0.0, 0.5), (0.5, 1.5)])
def test_sizes_that_are_no_range_are_refused(scale):
    with pytest.raises(UsageError, match="0 < low ≤ high ≤ 1"):
        PatchConfig.from_mapping({"scale": scale})


def test_patches_without_change_of_colour_stay_as_they_are():
    patches = torch.rand(5, 3, 8, 8, generator=generator())
    assert torch.allclose(augment_patches(patches, PatchConfig(colour_jitter=0.0, grey=0.0), generator()), patches, atol=1e-6)


def test_grey_patches_have_no_colour_and_all_stay_in_range():
    patches = torch.rand(64, 3, 8, 8, generator=generator())
    changed = augment_patches(patches, PatchConfig(colour_jitter=0.9, grey=0.5), generator())
    colourless = (changed.amax(1) - changed.amin(1)).amax((1, 2)) < 1e-5
    assert 16 < int(colourless.sum()) < 48
    assert changed.min() >= 0
    assert changed.max() <= 1


@pytest.mark.parametrize("patches", [1, 2, 5, 20])
def test_patches_that_divide_the_slots_work(squares, patches):
    loss, parts = task(squares, patches=patches).loss([squares.samples(1).sample(0)], generator())
    assert math.isfinite(loss.item())
    assert set(parts) == {f"layer{layer}_{part}" for layer in range(2) for part in ("matched", "distance", "overlap", "reconstruction")}


def test_patches_that_do_not_are_refused(squares):
    with pytest.raises(ValueError, match="patches = 3 does not divide patch_slots = 20"):
        task(squares, patches=3)


@torch.no_grad()
def test_a_patch_is_described_by_its_own_pixels(squares):
    """Crops on a red and on a green half: the description follows the half, wherever in it the crop lies."""
    images = torch.zeros(1, 3, 64, 64)
    images[:, 0, :, :32] = images[:, 1, :, 32:] = 1.0
    crops = torch.tensor([[[0.2, 0.3, 0.2, 0.2], [0.3, 0.7, 0.2, 0.2], [0.8, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]]])
    features = task(squares).describe(images, crops, generator())[0]
    assert torch.allclose(features[0], features[1], atol=1e-4)
    assert torch.allclose(features[2], features[3], atol=1e-4)
    assert (features[0] - features[2]).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("patches", [2, 4, 10])
def test_the_patch_of_one_group_changes_nothing_in_another(squares, patches):
    model = task(squares, patches=patches).model.eval()
    slots, group = model.patch_queries.count, model.patch_queries.count // patches
    with seeded(3):
        for head in model.decoder.box_heads:
            torch.nn.init.normal_(head[-1].weight, std=0.1)
    memory = model.encode(torch.rand(1, 3, 64, 64, generator=generator()))
    features = torch.rand(1, patches, model.backbone.channels[-1], generator=generator(1))
    changed = features.clone()
    changed[0, 0] += torch.randn(features.shape[-1], generator=generator(2))
    mask = block_mask(slots, patches, torch.device("cpu"))
    before, after = (model.decoder(memory, model.patch_queries(each), mask) for each in (features, changed))
    for one, other in ((before.content[-1], after.content[-1]), (before.boxes[-1], after.boxes[-1])):
        assert torch.equal(one[:, group:], other[:, group:])
        assert not torch.allclose(one[:, :group], other[:, :group])


def test_a_patch_is_answered_by_the_cheapest_slot_of_its_own_group(squares):
    matched = task(squares, patches=2)
    boxes = torch.full((1, 20, 4), 0.05)
    crops = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]]])
    for slot, error in ((3, 0.1), (7, 0.02), (15, 0.05)):
        boxes[0, slot] = torch.tensor([0.5 + error, 0.5, 0.2, 0.2])
    assert matched._match(torch.zeros(1, 20, 1), boxes, crops).tolist() == [[7, 15]]


def test_the_backbone_stays_as_it_is_and_everything_else_learns(squares):
    learned = task(squares)
    learned.loss([squares.samples(1).sample(0)], generator())[0].backward()
    model = learned.model
    assert not any(weight.requires_grad for weight in model.backbone.parameters())
    without = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []


def test_the_generator_decides_every_random_choice(squares):
    learned = task(squares, colour_jitter=0.4, grey=0.2, query_dropout=0.2)
    batch = [squares.samples(2).sample(index) for index in range(2)]
    state = torch.random.get_rng_state()
    one, same, other = (learned.loss(batch, generator(seed))[0].item() for seed in (1, 1, 2))
    assert one == same != other
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_loss_falls_on_a_fixed_set_of_pictures(squares):
    learned = task(squares)
    run = train(
        learned, squares.samples(4), squares.schedule(images_seen=160, batch_size=4, learning_rate=2e-3), checkpoints=None, progress=silent
    )
    assert sum(run.losses[-8:]) / 8 < 0.75 * sum(run.losses[:4]) / 4


@pytest.mark.parametrize("patches", [1, 4, 10])
def test_in_training_too_a_group_is_blind_to_the_others(squares, patches):
    learned = task(squares, patches=patches)
    masks = []
    learned.model.decoder.register_forward_pre_hook(lambda _decoder, arguments: masks.append(arguments[2]))
    learned.loss([squares.samples(1).sample(0)], generator())
    [mask] = masks
    assert torch.equal(mask, block_mask(20, patches, torch.device("cpu")))


def test_uniform_crops_lie_inside_and_are_hardly_ever_small():
    crops = sample_crops(torch.rand(1, 3, 64, 64), PatchConfig(patches=2000, crops="uniform"), generator())[0]
    assert (crops[:, :2] - crops[:, 2:] / 2).min() >= -1e-6
    assert (crops[:, :2] + crops[:, 2:] / 2).max() <= 1 + 1e-6
    assert crops[:, 2:].mean().item() == pytest.approx(0.5, abs=0.02)
    assert (crops[:, 2:] < 1 / 16).all(1).float().mean() < 0.01


@torch.no_grad()
def test_blur_smooths_a_share_of_the_patches():
    patches = torch.rand(64, 3, 16, 16, generator=generator())
    blurred = augment_patches(patches, PatchConfig(colour_jitter=0.0, grey=0.0, blur=0.5), generator(2))
    changed = (blurred - patches).abs().amax((1, 2, 3)) > 1e-6
    left = blurred.diff(dim=3).abs().mean((1, 2, 3)) / patches.diff(dim=3).abs().mean((1, 2, 3))
    assert 16 < int(changed.sum()) < 48
    assert (left[changed] < 1).all()
    assert left[changed].max() > 0.6
    assert left[changed].min() < 0.3


@torch.no_grad()
def test_a_patch_may_be_described_by_the_image_s_own_map(squares):
    pooled = task(squares, features="map")
    coarsest = torch.zeros(1, 5, 2, 2)
    coarsest[0, :, 0, 1] = torch.arange(5.0)
    features = pooled._pooled(coarsest, torch.tensor([[[0.75, 0.25, 0.4, 0.4], [0.25, 0.75, 0.4, 0.4]]]))
    assert torch.allclose(features[0, 0], torch.arange(5.0), atol=1.0)
    assert features[0, 0, 4] > 3
    assert features[0, 1].abs().max() < features[0, 0, 4] / 4


def test_a_pooled_patch_costs_no_pass_of_the_backbone(squares):
    passes = []
    for features in ("crop", "map"):
        learned = task(squares, features=features)
        learned.model.backbone.register_forward_pre_hook(lambda _backbone, arguments: passes.append(len(arguments[0])))
        learned.loss([squares.samples(1).sample(0)], generator())
    assert passes == [1, 4, 1]


def test_all_slots_may_be_matched_one_to_one(squares):
    matched = task(squares, patches=2, matching="all")
    boxes = torch.full((1, 20, 4), 0.05)
    crops = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]]])
    for slot, error in ((3, 0.1), (5, 0.02), (7, 0.05)):
        boxes[0, slot] = torch.tensor([0.5 + error, 0.5, 0.2, 0.2])
    assert sorted(matched._match(torch.zeros(1, 20, 1), boxes, crops)[0].tolist()) == [5, 7]


def test_the_mask_can_be_left_out(squares):
    learned = task(squares, mask=False)
    masks = []
    learned.model.decoder.register_forward_pre_hook(lambda _decoder, arguments: masks.append(arguments[2]))
    learned.loss([squares.samples(1).sample(0)], generator())
    assert masks == [None]


@pytest.mark.parametrize("architecture", ["deformable", "detr"])
def test_shuffled_slots_carry_other_patches(squares, architecture):
    config = squares.TINY if architecture == "deformable" else DENSE
    with seeded(0):
        model = Detector(config, 0)
    features = torch.rand(1, 4, model.backbone.channels[-1], generator=generator())
    order = torch.arange(20).roll(5)
    plain, shuffled = model.patch_queries(features), model.patch_queries(features, order=order)
    assert torch.allclose(shuffled.boxes, plain.boxes[:, order], atol=1e-6)
    assert torch.equal(shuffled.extra_position, plain.extra_position)
    own = "content" if architecture == "deformable" else "position"
    added = plain.extra_position if architecture == "deformable" else 0
    assert torch.allclose(getattr(shuffled, own) - added, (getattr(plain, own) - added)[:, order], atol=1e-6)


@pytest.mark.parametrize("architecture", ["deformable", "detr"])
@pytest.mark.parametrize(
    "switch",
    [{"features": "map"}, {"matching": "all"}, {"mask": False}, {"shuffle": True}, {"crops": "uniform"}, {"blur": 0.5}, {"patches": 1}],
)
def test_every_switch_can_be_learned_with(squares, switch, architecture):
    config = squares.TINY if architecture == "deformable" else DENSE
    with seeded(0):
        learned = QueryPatchTask(Detector(config, 0), PatchConfig(**{"patches": 4} | PLAIN | switch))
    loss, _ = learned.loss([squares.samples(1).sample(0)], generator())
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(weight.grad is not None for weight in learned.model.patch_queries.parameters())


def test_an_unfrozen_backbone_learns_too(squares):
    with seeded(0):
        learned = QueryPatchTask(Detector(squares.TINY, 0), PatchConfig(patches=4, **PLAIN), freeze_backbone=False)
    learned.loss([squares.samples(1).sample(0)], generator())[0].backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in learned.model.backbone.parameters())
