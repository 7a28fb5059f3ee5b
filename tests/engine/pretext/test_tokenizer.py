"""The visual vocabulary: like patches share a word, and a file of another place or backbone is refused."""

import numpy as np
import pytest
import torch

from engine.boxes import Boxes
from engine.errors import CheckpointRefused, NothingToDo
from engine.models.detector import Detector
from engine.pretext.tokenizer import Tokenizer, TokenizerConfig, fit_tokenizer
from engine.training.data import TileSamples
from engine.training.loop import seeded

COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])


def network(squares, seed=0):
    with seeded(seed):
        return Detector(squares.TINY, 0)


def quarters(count=6):
    """Tiles of 64 px whose quarters have four colours in some order, and a little noise; and the colours' numbers (count, 4)."""
    draw = np.random.default_rng(0)
    orders = np.stack([draw.permutation(4) for _ in range(count)])
    noise = draw.integers(0, 9, (count, 64, 64, 3))
    images = np.repeat(np.repeat(COLOURS[orders].reshape(count, 2, 2, 3), 32, 1), 32, 2) + noise
    return TileSamples(list(images.astype(np.uint8)), [Boxes.empty()] * count, 64), torch.from_numpy(orders)


def fitted(squares, basis="pixels", *, words=4, origin="here"):
    source, orders = quarters()
    model = network(squares)
    tokenizer = fit_tokenizer(source, TokenizerConfig(basis=basis), patch=32, words=words, network=model, seed=0, origin=origin)
    images = torch.stack([source.sample(index).image for index in range(len(source))]).float() / 255
    return tokenizer, images, orders


@pytest.mark.parametrize("basis", ["pixels", "features"])
def test_like_patches_share_a_word(squares, basis):
    tokenizer, images, orders = fitted(squares, basis)
    words = tokenizer.words(images)
    assert words.shape == (6, 4)
    pairs = set(zip(words.flatten().tolist(), orders.flatten().tolist(), strict=True))
    assert len(pairs) == 4


def test_a_word_is_pictured_by_the_mean_of_its_patches(squares):
    tokenizer, images, orders = fitted(squares)
    pictured = tokenizer.pictures(tokenizer.words(images))
    assert pictured.shape == (6, 4, 3, 32, 32)
    expected = torch.from_numpy(COLOURS)[orders] / 255
    assert torch.allclose(pictured.mean((3, 4)), expected.float(), atol=0.03)


@pytest.mark.parametrize("basis", ["pixels", "features"])
def test_what_is_saved_names_the_same(squares, tmp_path, basis):
    tokenizer, images, _ = fitted(squares, basis)
    tokenizer.save(tmp_path / "words.safetensors")
    again = Tokenizer.load(tmp_path / "words.safetensors", network=network(squares), origin="here")
    assert torch.equal(again.words(images), tokenizer.words(images))
    assert torch.equal(again.pictures(torch.arange(4)[None]), tokenizer.pictures(torch.arange(4)[None]))


def test_a_vocabulary_keeps_the_backbone_that_it_was_made_with(squares):
    source, _ = quarters()
    model = network(squares)
    tokenizer = fit_tokenizer(source, TokenizerConfig(), patch=32, words=4, network=model, seed=0)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = tokenizer._describe(images)
    with torch.no_grad():
        for weight in model.backbone.parameters():
            weight.mul_(1.5)
    assert torch.equal(tokenizer._describe(images), before)


def test_a_saved_vocabulary_names_the_same_whatever_the_backbone_has_learned_since(squares, tmp_path):
    tokenizer, images, _ = fitted(squares, "features")
    tokenizer.save(tmp_path / "words.safetensors")
    learned = network(squares, seed=1)
    again = Tokenizer.load(tmp_path / "words.safetensors", network=learned)
    assert torch.equal(again.words(images), tokenizer.words(images))
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "words.safetensors").read_bytes()
    assert not torch.equal(next(learned.backbone.parameters()), next(network(squares).backbone.parameters()))


def test_a_tokenizer_of_another_place_or_architecture_is_refused(squares, tmp_path):
    fitted(squares, "features")[0].save(tmp_path / "words.safetensors")
    with pytest.raises(CheckpointRefused, match="a tokenizer of here"):
        Tokenizer.load(tmp_path / "words.safetensors", network=network(squares), origin="elsewhere")
    with seeded(0):
        other = Detector(squares.TINY.model_copy(update={"backbone": "tf_efficientnet_lite1"}), 0)
    with pytest.raises(CheckpointRefused, match="another backbone"):
        Tokenizer.load(tmp_path / "words.safetensors", network=other)


def test_a_file_of_something_else_is_refused(tmp_path):
    from engine.files import write_bytes
    from engine.models.weight_files import serialized

    write_bytes(tmp_path / "other.safetensors", serialized({"x": torch.zeros(1)}, {"a": 1}))
    with pytest.raises(CheckpointRefused, match="no tokenizer"):
        Tokenizer.load(tmp_path / "other.safetensors")


def test_more_words_than_patches_are_refused(squares):
    with pytest.raises(NothingToDo, match="24 patches of more than one colour for 25 words"):
        fitted(squares, words=25)


def test_a_vocabulary_is_made_of_the_tiles_that_can_be_read(squares, fake):
    model, source = fitted(squares)[0], squares.samples(6)

    def words(tiles):
        return fit_tokenizer(tiles, TokenizerConfig(basis="pixels"), patch=32, words=4, network=model, seed=0)

    assert words(fake("training").Torn(source, [1])).centres.shape == (4, 3 * 8 * 8)
    with pytest.raises(NothingToDo, match="0 patches of more than one colour for 4 words"):
        words(fake("training").Torn(source, range(6)))
