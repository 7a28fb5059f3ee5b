"""The five encoder tasks: what is shown and asked, on both architectures, and that they can be learned."""

import pytest
import torch

from engine.errors import UsageError
from engine.models.detector import Detector
from engine.pretext.encoder_tasks import EncoderTask, EncoderTaskConfig
from engine.pretext.patch_grid import from_patches, to_patches
from engine.pretext.tokenizer import TokenizerConfig, fit_tokenizer
from engine.progress import silent
from engine.training.data import Sample
from engine.training.loop import seeded, train

TASKS = ["reconstruction", "mim-continuous", "mim-discrete", "jigsaw-continuous", "jigsaw-discrete"]
WORDS = 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def dense(squares):
    values = squares.TINY.model_dump(include={"backbone", "backbone_weights", "frozen_stages", "dimension", "heads", "image_size"})
    return squares.TINY.from_mapping(values | {"architecture": "detr", "feature_levels": (4,), "patch_slots": 20, "feedforward": 64})


def made(squares, name, *, architecture="deformable", freeze_backbone=False, basis="pixels", **changes):
    with seeded(0):
        model = Detector(squares.TINY if architecture == "deformable" else dense(squares), 0)
    config = EncoderTaskConfig(**{"task": name, "patch": 32, "vocabulary": WORDS} | changes)
    tokenizer = None
    if name == "mim-discrete":
        tokenizer = fit_tokenizer(squares.samples(8), TokenizerConfig(basis=basis), patch=config.patch, words=WORDS, network=model, seed=0)
    return EncoderTask(model, config, tokenizer=tokenizer, freeze_backbone=freeze_backbone)


@pytest.mark.parametrize("architecture", ["deformable", "detr"])
@pytest.mark.parametrize("levels", ["largest", "every"])
@pytest.mark.parametrize("name", TASKS)
def test_every_task_teaches_encoder_and_backbone(squares, name, levels, architecture):
    task = made(squares, name, architecture=architecture, levels=levels)
    loss, parts = task.loss([squares.samples(2).sample(index) for index in range(2)], generator())
    loss.backward()
    detector = task.detector
    assert loss.item() > 0
    assert parts["patches"] == (8 if name == "reconstruction" else 4)
    first = next(weight for weight in detector.backbone.parameters() if weight.requires_grad)
    assert first.grad is not None
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in detector.encoder.parameters())
    assert all(weight.grad is None for weight in detector.decoder.parameters())


@pytest.mark.parametrize("name", TASKS)
def test_a_frozen_backbone_is_not_taught(squares, name):
    task = made(squares, name, freeze_backbone=True)
    task.loss([squares.samples(1).sample(0)], generator())[0].backward()
    assert all(weight.grad is None for weight in task.detector.backbone.parameters())


@pytest.mark.parametrize("name", TASKS)
def test_the_generator_decides_everything(squares, name):
    task = made(squares, name)
    batch = [squares.samples(2).sample(index) for index in range(2)]
    one, same, other = (task.loss(batch, generator(seed))[0].item() for seed in (1, 1, 5))
    assert one == same
    assert name == "reconstruction" or one != other


def test_what_is_hidden_is_zero_to_the_backbone(squares):
    task = made(squares, "mim-continuous", ratio=1.0)
    shown = task.show([squares.samples(1).sample(0)], generator())
    normalised = (shown.given - task.detector.mean) / task.detector.std
    assert torch.allclose(normalised, torch.zeros(()), atol=1e-6)


def test_the_loss_is_the_mean_difference_on_what_was_hidden(squares):
    task = made(squares, "mim-continuous", hidden=False)
    for weight in task.heads.parameters():
        torch.nn.init.zeros_(weight)
    sample = squares.samples(1).sample(0)
    loss, _ = task.loss([sample], generator())
    image = sample.image[None].float() / 255
    normalised = to_patches((image - task.detector.mean) / task.detector.std, 32)
    chosen = (to_patches(task.show([sample], generator()).given, 32) != to_patches(image, 32)).flatten(2).any(2)
    assert chosen.sum() == 2
    assert loss.item() == pytest.approx(normalised[chosen].abs().mean().item(), rel=1e-5)


def test_the_loss_may_be_taken_on_all_patches(squares):
    task = made(squares, "mim-continuous", loss_on="all")
    assert task.loss([squares.samples(1).sample(0)], generator())[1]["patches"] == 4


@pytest.mark.parametrize("name", ["mim-continuous", "jigsaw-discrete"])
def test_less_is_hidden_or_moved_as_the_share_falls_and_nothing_is_no_loss(squares, name):
    task = made(squares, name, ratio=1.0, ratio_curve="linear")
    sample = squares.samples(1).sample(0)
    found = [task.loss([sample], generator(), done) for done in (0.0, 0.5, 1.0)]
    assert [parts["patches"] for _, parts in found[:2]] == [4, 2]
    assert found[2][0].item() == 0
    rising = made(squares, name, ratio=0.0, ratio_end=1.0, ratio_curve="cosine")
    assert (rising.show([sample], generator()).given != rising.show([sample], generator()).wanted).any()
    assert rising.loss([sample], generator(), 1.0)[1]["patches"] == 4


def test_a_constant_share_has_no_end(squares):
    with pytest.raises(UsageError, match="nothing to learn from"):
        EncoderTaskConfig.from_mapping({"ratio": 0, "ratio_end": 0.5})
    task = made(squares, "mim-continuous", ratio=0.5, ratio_end=1.0)
    assert task.loss([squares.samples(1).sample(0)], generator(), 1.0)[1]["patches"] == 2


def test_padding_is_neither_hidden_nor_asked_for(squares):
    image = squares.samples(1).sample(0).image.clone()
    image[:, 32:] = 0
    sample = Sample(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    for name in TASKS:
        task = made(squares, name, ratio=1.0)
        assert task.loss([sample], generator())[1]["patches"] == 2
        assert torch.equal(task.show([sample], generator()).given[..., 32:, :], torch.zeros(1, 3, 32, 64))


def test_the_padding_of_a_patch_that_is_asked_for_does_not_count(squares):
    sample = squares.samples(1).sample(0)
    narrow = sample.image.clone()
    narrow[:, :, 26:] = 0
    task = made(squares, "reconstruction", hidden=False)
    for weight in task.heads.parameters():
        torch.nn.init.zeros_(weight)
    loss, parts = task.loss([sample._replace(image=narrow)], generator())
    seen = narrow[None, :, :, :26].float() / 255
    assert parts["patches"] == 2
    assert loss.item() == pytest.approx(((seen - task.detector.mean) / task.detector.std).abs().mean().item(), rel=1e-3)


def test_an_image_of_padding_alone_teaches_nothing(squares):
    empty = Sample(torch.zeros(3, 64, 64, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    loss, _ = made(squares, "jigsaw-discrete").loss([empty], generator())
    assert loss.item() == 0


def test_places_are_asked_of_the_patches_that_moved(squares):
    task = made(squares, "jigsaw-discrete", ratio=1.0, hidden=False)
    sample = squares.samples(1).sample(0)
    _, _ = task.loss([sample], generator())
    shown = task.show([sample], generator())
    before, after = to_patches(shown.wanted, 32)[0], to_patches(shown.given, 32)[0]
    origin = [next(place for place in range(4) if torch.equal(before[place], patch)) for patch in after]
    assert all(place != number for number, place in enumerate(origin))
    head = task.heads[0].layers[0]
    torch.nn.init.zeros_(head.weight)
    for place in range(4):
        with torch.no_grad():
            head.bias.copy_(torch.eye(4)[place] * 50)
        assert task.loss([sample], generator())[1]["right"] == pytest.approx(0.25)


def test_a_picture_of_the_right_places_is_the_picture(squares):
    task = made(squares, "jigsaw-discrete", ratio=1.0)
    sample = squares.samples(1).sample(0)
    changed, _ = task._change(sample.image[None].float() / 255, 1.0, generator())
    task._named = lambda head, tokens: torch.nn.functional.one_hot(changed.origin, 4).float()
    shown = task.show([sample], generator())
    assert torch.equal(shown.answered, shown.wanted)


def test_answers_at_every_level_speak_of_the_same_patches(squares):
    task = made(squares, "mim-continuous", levels="every")
    tokens = task._levels(task.detector.encode(torch.rand(1, 3, 64, 64, generator=generator())))
    assert [tuple(level.shape[1:3]) for level in tokens] == [(8, 8), (4, 4), (2, 2)]
    painted = [task._painted(head, level) for head, level in zip(task.heads, tokens, strict=True)]
    assert {tuple(each.shape) for each in painted} == {(1, 4, 3, 32, 32)}


def test_a_token_paints_its_own_pixels(squares):
    task = made(squares, "reconstruction", hidden=False)
    tokens = torch.zeros(1, 8, 8, 32)
    tokens[0, 2, 5, 0] = 1
    with torch.no_grad():
        task.heads[0].layers[0].weight.zero_()[:, 0] = 1
        task.heads[0].layers[0].bias.zero_()
    image = from_patches(task._painted(task.heads[0], tokens), 2)
    assert image[0, :, 16:24, 40:48].eq(1).all()
    assert image.sum() == 3 * 64


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_learned(squares, name):
    task = made(squares, name, **({"ratio": 0.25} if name == "mim-continuous" else {}))
    schedule = squares.schedule(images_seen=480, batch_size=4)
    run = train(task, squares.samples(8), schedule, checkpoints=None, progress=silent)
    assert sum(run.losses[-10:]) < 0.9 * sum(run.losses[:10])


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"patch": 16, "levels": "every"}, "multiple of 32"), ({"patch": 24}, "divisor of 64"), ({"patch": 4}, "multiple of 8")],
)
def test_patches_that_tokens_do_not_fill_are_refused(squares, changes, said):
    with pytest.raises(UsageError, match=said):
        made(squares, "mim-continuous", **changes)


@pytest.mark.parametrize("ratio", [-0.1, 1.5])
def test_shares_outside_0_and_1_are_refused(ratio):
    with pytest.raises(UsageError, match=f"ratio = {ratio}"):
        EncoderTaskConfig.from_mapping({"ratio": ratio})


def test_nothing_hidden_and_nothing_asked_is_refused():
    with pytest.raises(UsageError, match="nothing to learn from"):
        EncoderTaskConfig.from_mapping({"ratio": 0, "task": "jigsaw-discrete"})


def test_words_need_a_tokenizer_of_their_own(squares):
    with seeded(0):
        model = Detector(squares.TINY, 0)
    with pytest.raises(UsageError, match="without a tokenizer"):
        EncoderTask(model, EncoderTaskConfig(task="mim-discrete"))
    tokenizer = made(squares, "mim-discrete")._tokenizer
    with pytest.raises(UsageError, match="4 words for patches of 32 px"):
        EncoderTask(model, EncoderTaskConfig(task="mim-discrete", vocabulary=9), tokenizer=tokenizer)


@pytest.mark.parametrize(("name", "ratio", "needed"), [("mim-continuous", 0.1, 1), ("jigsaw-discrete", 0.3, 2)])
def test_a_ratio_that_changes_no_patch_is_refused(squares, name, ratio, needed):
    with pytest.raises(UsageError, match=rf"ratio = {ratio} of the 4 patches") as refused:
        made(squares, name, ratio=ratio)
    assert refused.value.expected == f"{needed} at least"
