"""The whole detector: it starts as good as its proposals, and learns."""

import pytest
import torch

from engine.boxes import Boxes
from engine.errors import UsageError
from engine.evaluation.detection import evaluate_detections
from engine.inference.predict import predict_batch
from engine.models.detector import Detector, DetectorConfig
from engine.models.presets import PRESETS
from engine.models.queries import select_proposals
from engine.progress import silent
from engine.training.detection import DetectionTask, stack_images
from engine.training.loop import seeded, train


def images(count, size=64):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def untrained(squares):
    with seeded(0):
        return Detector(squares.TINY, 2).eval()


@torch.no_grad()
def test_shapes(untrained):
    found = untrained(images(3))
    assert [(layer.logits.shape, layer.boxes.shape) for layer in found.layers] == [((3, 20, 2), (3, 20, 4))] * 2
    assert found.memory.tokens.shape == (3, 64 + 16 + 4, 32)
    assert found.proposals.boxes.shape == (3, 84, 4)


@torch.no_grad()
def test_known_boxes_are_answered_for_by_the_region_stage_alone(squares):
    with seeded(0):
        untrained = Detector(squares.TINY, 2).eval()
    known = torch.tensor([[[0.3, 0.3, 0.2, 0.2]], [[0.6, 0.5, 0.1, 0.4]]])
    plain, told = untrained(images(2)), untrained(images(2), known=known)
    assert plain.regions[0].boxes.shape == (2, 20, 4)
    assert told.regions[0].boxes.shape == (2, 21, 4)
    assert torch.equal(told.regions[0].starts[:, 20:], known)
    assert torch.allclose(told.regions[0].boxes[:, :20], plain.regions[0].boxes, atol=1e-6)
    assert torch.allclose(told.layers[-1].logits, plain.layers[-1].logits, atol=1e-5)


@torch.no_grad()
def test_the_decoder_starts_from_the_boxes_of_the_region_stage(squares):
    with seeded(0):
        model = Detector(squares.TINY, 2).eval()
    model.region_stage.moves.bias.fill_(2.0)
    found = model(images(2))
    assert torch.allclose(found.regions[1].starts, found.regions[0].boxes, atol=1e-6)
    assert torch.allclose(found.layers[0].starts, found.regions[-1].boxes, atol=1e-6)
    assert not torch.allclose(found.regions[-1].boxes, found.regions[-1].starts, atol=1e-3)


@torch.no_grad()
def test_the_region_stage_looks_on_when_it_answers_and_not_when_it_is_trained(squares):
    model = Detector(squares.TINY.model_copy(update={"region_looks": 1, "further_looks": 2}), 2)
    model.region_stage.moves.bias.fill_(1.0)
    trained, answered = model.train()(images(2)), model.eval()(images(2))
    assert len(trained.regions) == 1
    assert len(answered.regions) == 3
    assert torch.allclose(answered.regions[2].starts, answered.regions[1].boxes, atol=1e-6)
    assert torch.equal(answered.layers[0].starts, answered.regions[2].boxes)


@torch.no_grad()
def test_the_answer_lies_between_the_region_stage_and_the_decoder(squares):
    model = Detector(squares.TINY.model_copy(update={"decoder_layers": 1, "decoder_share": 0.25}), 2)
    model.decoder.box_heads[0][-1].bias.fill_(0.4)
    model.class_heads[0][-1].bias.fill_(2.0)
    (decoded,) = model.train()(images(2)).layers
    model.config = model.config.model_copy(update={"further_looks": 0})
    found = model.eval()(images(2))
    stage, (answer,) = found.regions[-1], found.layers
    assert torch.allclose(answer.logits, stage.logits + 0.25 * (decoded.logits - stage.logits), atol=1e-5)
    assert torch.allclose(answer.boxes, stage.boxes + 0.25 * (decoded.boxes - stage.boxes), atol=1e-5)
    assert (decoded.logits - stage.logits).abs().min() > 1
    assert (decoded.boxes - stage.boxes).abs().max() > 0.1


def test_the_region_stage_reads_one_level_finer_than_memory(squares):
    coarse, fine = (Detector(squares.TINY.model_copy(update={"region_fine": given}), 2) for given in (False, True))
    assert fine.strides == coarse.strides == (8, 16, 32)
    assert [each.shape for each in fine.features(images(1))] == [each.shape for each in coarse.features(images(1))]
    memory = fine.encode(images(2))
    tokens, shapes = fine.region_stage.view(memory)
    assert shapes == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert torch.allclose(tokens[:, 256:], fine.region_stage.thin(memory.tokens))
    cell = memory.tokens[:, 8 + 3], memory.fine[:, :, 2:4, 6:8]
    expected = fine.region_stage.thin(cell[0])[:, None] + fine.region_stage.lateral(cell[1].flatten(2).transpose(1, 2))
    assert torch.allclose(tokens[:, :256].view(2, 16, 16, -1)[:, 2:4, 6:8].flatten(1, 2), expected, atol=1e-5)
    assert coarse.encode(images(1)).fine is None
    assert coarse.region_stage.view(coarse.encode(images(1)))[1] == [(8, 8), (4, 4), (2, 2)]


def test_a_backbone_whose_levels_do_not_halve_is_refused_a_finer_one(squares):
    flat = squares.TINY.model_dump() | {"backbone": "test_vit", "feature_levels": (3, 4, 5)}
    with pytest.raises(UsageError, match=r"strides \[16, 16, 16, 16\].*region_fine"):
        Detector(DetectorConfig(**flat), 2)


@torch.no_grad()
def test_an_untrained_residual_decoder_says_what_its_proposals_say(squares):
    with seeded(0):
        untrained = Detector(squares.TINY.model_copy(update={"region_stage": 0}), 2).eval()
    with seeded(1):
        for part in (untrained.proposals.classes, untrained.proposals.boxes[-1]):
            torch.nn.init.normal_(part.weight, std=0.2)
    found = untrained(images(2))
    queries = select_proposals(found.proposals, 20, candidates=40, iou_threshold=0.7)
    for layer in found.layers:
        assert torch.equal(layer.logits, queries.logits)
        assert torch.allclose(layer.boxes, queries.boxes, atol=1e-6)


@torch.no_grad()
def test_an_untrained_decoder_says_what_the_region_stage_says(untrained):
    found = untrained(images(2))
    for layer in found.layers:
        assert torch.equal(layer.logits, found.regions[-1].logits)
        assert torch.allclose(layer.boxes, found.regions[-1].boxes, atol=1e-6)


@torch.no_grad()
def test_what_is_said_of_a_tile_does_not_depend_on_its_batch(untrained):
    tiles = images(3)
    together = untrained(tiles)
    for number in range(3):
        alone = untrained(tiles[number : number + 1])
        assert torch.allclose(alone.memory.tokens[0], together.memory.tokens[number], atol=1e-5)
        assert torch.allclose(alone.layers[-1].logits[0], together.layers[-1].logits[number], atol=1e-5)
        assert torch.allclose(alone.layers[-1].boxes[0], together.layers[-1].boxes[number], atol=1e-5)


def test_the_same_seed_draws_the_same_weights_and_leaves_the_global_generator_alone(squares):
    before = torch.random.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        with seeded(seed):
            drawn.append(Detector(squares.TINY, 2).state_dict())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(tensor, drawn[1][name]) for name, tensor in drawn[0].items())
    assert not all(torch.equal(tensor, drawn[2][name]) for name, tensor in drawn[0].items())


def test_a_model_without_classes_has_no_class_heads(squares):
    names = Detector(squares.TINY, 0).state_dict()
    assert not [name for name in names if name.startswith(("proposals.", "class_heads.", "query_content."))]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 3}, "heads = 3 must divide dimension = 128"),
        ({"num_queries": 400}, "proposal_candidates = 300 must be at least num_queries = 400"),
        ({"image_size": 100}, "image_size"),
        ({"backbone_wieghts": "none"}, "backbone_weights"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        DetectorConfig.from_mapping(values)


def test_presets_are_architectures():
    assert all(isinstance(preset, DetectorConfig) for preset in PRESETS.values())


def test_it_learns_a_handful_of_pictures_by_heart(squares):
    source = squares.samples(2)
    with seeded(0):
        model = Detector(squares.TINY, 2)
    schedule = squares.schedule(images_seen=300, batch_size=2, learning_rate=3e-3, backbone_learning_rate=3e-3)
    run = train(DetectionTask(model), source, schedule, checkpoints=None, progress=silent)
    assert sum(run.losses[-10:]) < 0.35 * sum(run.losses[:10])
    batch = [source.sample(index) for index in range(2)]
    said = predict_batch(model, stack_images(batch), score_threshold=0.01, iou_threshold=0.5)
    pairs = [
        (Boxes(known.boxes, known.labels), Boxes(found.boxes, found.labels, found.class_scores.max(1).values))
        for known, found in zip(batch, said, strict=True)
    ]
    metrics = evaluate_detections(pairs, squares.LABELS)
    assert metrics.ap50 > 0.95
    assert metrics.ap > 0.8
