"""Predictions on tiles: what is kept of the decoder's answers, and embeddings."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.errors import Cancelled
from engine.inference.predict import embed_tiles, object_features, predict_batch, predict_tiles
from engine.inference.predictions import Predictions
from engine.models.detector import Detections, Detector, Layer
from engine.models.encoder import Memory
from engine.progress import silent
from engine.training.loop import seeded

SIZE = 100
BOXES = [
    [0.30, 0.30, 0.20, 0.20],
    [0.31, 0.30, 0.20, 0.20],
    [0.95, 0.50, 0.20, 0.20],
    [0.50, 0.50, 0.005, 0.30],
    [0.70, 0.80, 0.10, 0.10],
]
SCORES = [[0.9, 0.1], [0.8, 0.1], [0.2, 0.7], [0.95, 0.1], [0.3, 0.02]]


class Says:
    """A detector that says the same of every image; its layer before the last lies half a box to the left."""

    num_classes = 2

    def __init__(self, layers=2, starts=None):
        self.layers, self.starts = layers, starts

    def __call__(self, images):
        boxes, logits = torch.tensor([BOXES] * len(images)), torch.tensor([SCORES] * len(images)).logit()
        before = boxes - torch.tensor([0.5, 0, 0, 0]) * boxes[..., 2:3]
        layers = [Layer(logits, before), Layer(logits, boxes, starts=self.starts)][-self.layers :]
        return Detections(layers, None, Memory(images.flatten(2).transpose(1, 2), []))


def say(*, score_threshold=0.25, iou_threshold=0.7, layers=2):
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return predict_batch(Says(layers), images, score_threshold=score_threshold, iou_threshold=iou_threshold)[0]


def test_boxes_in_pixels_best_first_without_duplicates_slivers_and_weak_ones():
    tile = say()
    assert torch.allclose(tile.boxes, torch.tensor([[20.0, 20, 40, 40], [85, 40, 100, 60], [65, 75, 75, 85]]), atol=1e-3)
    assert tile.labels.tolist() == [0, 1, 0]
    assert torch.allclose(tile.class_scores, torch.tensor([SCORES[0], SCORES[2], SCORES[4]]), atol=1e-6)


@pytest.mark.parametrize(("score", "iou", "count"), [(0.25, 1.0, 4), (0.5, 0.7, 2), (0.97, 0.7, 0)])
def test_thresholds(score, iou, count):
    assert len(say(score_threshold=score, iou_threshold=iou).boxes) == count


def test_drift_is_what_the_last_layer_still_moved():
    """Half a box aside the IoU is ½ : 1½."""
    assert say().drift.tolist() == pytest.approx([2 / 3] * 3, abs=1e-4)
    assert say(layers=1).drift.tolist() == pytest.approx([0.0] * 3, abs=1e-6)


def test_a_layer_that_began_at_points_has_moved_no_boxes():
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([BOXES] * 2)[..., :2]
    tile = predict_batch(Says(layers=1, starts=points), images, score_threshold=0.25, iou_threshold=0.7)[0]
    assert tile.drift.tolist() == pytest.approx([0.0] * 3, abs=1e-6)


def test_the_entropy_is_the_mean_of_all_queries_the_dropped_ones_too():
    best = torch.tensor(SCORES).amax(-1)
    bits = torch.distributions.Bernoulli(best).entropy() / torch.log(torch.tensor(2.0))
    assert say(score_threshold=0.97).query_entropy == pytest.approx(float(bits.mean()), abs=1e-5)


def test_features_are_what_lies_at_the_centre_of_a_box():
    ramp = torch.arange(4.0)
    fine = torch.stack([ramp.expand(4, 4), ramp[:, None].expand(4, 4)]).flatten(1).T
    coarse = torch.tensor([[10.0, 20.0]])
    memory = Memory(torch.cat([fine, coarse])[None], [(4, 4), (1, 1)])
    boxes = torch.tensor([[0.375, 0.625, 0.5, 0.1], [0.5, 0.5, 1.0, 1.0]])
    assert object_features(memory, 0, boxes).tolist() == [[5.5, 11.0], [5.75, 10.75]]
    assert object_features(memory, 0, boxes[:0]).shape == (0, 2)


def test_embeddings_are_unit_vectors_of_mean_and_peak():
    tokens = torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    vectors = embed_tiles(Memory(tokens, []))
    assert vectors.norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])
    half = 0.5**0.5
    mean, peak = torch.tensor([1.5, 0.5]), torch.tensor([3.0, 1.0])
    assert torch.allclose(vectors[0], torch.cat([mean / mean.norm(), peak / peak.norm()]) * half, atol=1e-6)


@pytest.fixture(scope="module")
def models(squares):
    with seeded(0):
        tuned, pretrained = Detector(squares.TINY, 2).eval(), Detector(squares.TINY, 0).eval()
        torch.nn.init.normal_(tuned.region_stage.classes.weight, std=0.5)
    return SimpleNamespace(tuned=tuned, pretrained=pretrained)


def predicted(squares, model, count, *, batch_size, progress=silent):
    samples = squares.samples(max(count, 1))
    tiles = ((10 * index, samples.sample(index).image) for index in range(count))
    return predict_tiles(model, tiles, count, batch_size=batch_size, score_threshold=0.01, iou_threshold=0.7, progress=progress)


def test_batches_do_not_matter(squares, models):
    one, three = predicted(squares, models.tuned, 5, batch_size=1), predicted(squares, models.tuned, 5, batch_size=3)
    assert len(one.tile_index) > 5
    assert one.tile_ids.tolist() == three.tile_ids.tolist() == [0, 10, 20, 30, 40]
    assert one.tile_index.tolist() == three.tile_index.tolist()
    for name in ("boxes_tile", "class_scores", "embeddings", "drift"):
        assert np.allclose(getattr(one, name), getattr(three, name), atol=1e-3)


def test_scores_and_labels_are_those_of_the_best_class(squares, models):
    found = predicted(squares, models.tuned, 2, batch_size=2)
    assert (found.scores == found.class_scores.max(1)).all()
    assert (found.labels == found.class_scores.argmax(1)).all()
    assert found.boxes_tile.min() >= 0
    assert found.boxes_tile.max() <= squares.SIZE


def test_a_pre_trained_model_gives_embeddings_and_no_boxes(squares, models, tmp_path):
    found = predicted(squares, models.pretrained, 3, batch_size=2)
    assert (len(found), len(found.tile_index), found.embeddings.shape) == (3, 0, (3, 64))
    assert np.allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)
    assert not np.allclose(found.embeddings[0], found.embeddings[1], atol=1e-3)
    found.save(tmp_path / "found")
    assert len(Predictions.load(tmp_path / "found").of_tile(10)) == 0


def test_no_tile_gives_nothing(squares, models):
    assert len(predicted(squares, models.tuned, 0, batch_size=2)) == 0


def test_progress_is_told_after_every_batch_and_can_stop(squares, models):
    told = []

    def progress(done, total, message):
        told.append((done, total))
        if done == 4:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        predicted(squares, models.tuned, 5, batch_size=2, progress=progress)
    assert told == [(0, 5), (2, 5), (4, 5)]


def test_boxes_end_where_their_tile_ends(squares, models):
    samples = squares.samples(4)
    extents = [(squares.SIZE, squares.SIZE), (squares.SIZE // 2, squares.SIZE), (squares.SIZE, squares.SIZE // 4), (8, 8)]
    found = predict_tiles(
        models.tuned,
        ((index, samples.sample(index).image) for index in range(4)),
        4,
        batch_size=3,
        score_threshold=0.0,
        iou_threshold=1.0,
        progress=silent,
        extents=extents,
    )
    for index, (width, height) in enumerate(extents):
        corners = found.of_tile(index).xyxy
        assert len(corners)
        assert corners[:, 2].max() <= width
        assert corners[:, 3].max() <= height


@pytest.mark.parametrize(
    ("scores", "saturated"), [([[0.9, 0.1]] * 5, True), ([[0.11, 0.3]] * 5, True), ([*[[0.9, 0.1]] * 4, [0.09, 0.0]], False)]
)
def test_a_tile_in_which_every_query_answers_is_saturated(scores, saturated, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SCORES", scores)
    assert say(score_threshold=0.01).saturated is saturated


def test_saturated_tiles_are_told_of(monkeypatch, caplog):
    monkeypatch.setattr(f"{__name__}.SCORES", [[0.9, 0.1]] * 5)
    told, detector = [], Says()
    detector.config = SimpleNamespace(dimension=3, num_queries=5)
    detector.parameters = lambda: iter([torch.zeros(1)])
    predict_tiles(
        detector,
        ((number, torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)) for number in (7, 8, 9)),
        3,
        batch_size=2,
        score_threshold=0.01,
        iou_threshold=0.7,
        progress=lambda done, total, message: told.append(message),
    )
    assert told[-1].startswith("3 tiles may hold more objects than the detector finds: its 5 queries answered, first in tile 7.")
    assert [record.getMessage() for record in caplog.records] == [told[-1]]
