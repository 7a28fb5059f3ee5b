"""Export: what runs in ONNX Runtime is what torch computes, or nothing is left behind."""

import json

import numpy as np
import pytest
import torch

from engine.catalog.models import model_directory
from engine.deploy import export
from engine.deploy.export import ExportableDetector, export_detector, measure_parity
from engine.deploy.runtime import load_detector
from engine.errors import ParityError
from engine.files import sha256_of
from engine.models import store

TILE = 64


def pictures(squares, count):
    source = squares.samples(count)
    return torch.stack([source.sample(index).image for index in range(count)])


def test_parity_holds_and_is_not_about_nothing(exported):
    parity = exported.report.parity
    assert parity.images == 3
    assert parity.detections >= 3 * 2 * export.COMPARED_AT_LEAST
    assert parity.unmatched == 0
    assert parity.worst <= export.PARITY_TOLERANCE


def test_the_folder_says_what_it_holds(exported, squares):
    document = json.loads((exported.directory / "export.json").read_text())
    assert sorted(path.name for path in exported.directory.iterdir()) == ["export.json", "model.onnx"]
    assert (document["model"], document["tile"], document["classes"]) == (exported.report.model, TILE, ["red", "green"])
    assert document["fingerprint"] == squares.LABELS.fingerprint
    assert document["sha256"] == sha256_of(exported.directory / "model.onnx")
    assert document["parity"] == vars(exported.report.parity)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_runs_and_says_what_torch_says(exported, learned, squares, batch):
    detector, _ = store.load_detector(model_directory(learned.workspace, exported.report.model))
    images = pictures(squares, batch)
    boxes, scores = load_detector(exported.directory, threads=1, device="cpu").run(images.permute(0, 2, 3, 1).numpy())
    with torch.inference_mode():
        ours = tuple(part.numpy() for part in ExportableDetector(detector)(images.float() / 255))
    assert boxes.shape == (batch, 20, 4)
    assert scores.shape == (batch, 20, 2)
    assert measure_parity(ours, (boxes, scores), TILE).worst < 1e-3


def test_a_graph_that_computes_something_else_leaves_nothing_behind(squares, tmp_path):
    honest = export_detector(squares.Cells(), squares.LABELS, pictures(squares, 2), tmp_path / "cells", model="cells", threads=1)
    assert honest.worst < 1e-5
    before = {path.name: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    for target in ("cells", "fresh"):
        with pytest.raises(ParityError, match=r"differs from torch by 0\.0\d+ over \d+ detections, 0 unmatched"):
            export_detector(squares.Cells(lie=0.1), squares.LABELS, pictures(squares, 2), tmp_path / target, model="cells", threads=1)
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "cells").iterdir()} == before


def answers(seed=0):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 50, (2, 12, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(5, 14, corner.shape)], -1).astype(np.float32)
    return boxes, generator.uniform(0, 1, (2, 12, 2)).astype(np.float32)


def test_the_same_answers_are_equal_in_any_order():
    boxes, scores = answers()
    order = np.random.default_rng(1).permutation(12)
    parity = measure_parity((boxes, scores), (boxes[:, order], scores[:, order]), TILE)
    assert (parity.worst, parity.unmatched) == (0.0, 0)
    assert parity.detections == 2 * int((scores >= 0.05).sum())


def changed_score(boxes, scores):
    scores[1, 3] += np.where(scores[1, 3] < 0.5, 0.02, -0.02)


def changed_box(boxes, scores):
    boxes[0, 7, 2] += 0.02 * TILE


def missing(boxes, scores):
    scores[0, scores[0].max(1).argmax()] = 0.0


def one_more(boxes, scores):
    boxes[1, scores[1].max(1).argmin()] = [0, 0, 64, 64]


@pytest.mark.parametrize(
    ("change", "score", "box", "worst"),
    [
        (changed_score, 0.02, 0.0, 0.02),
        (changed_box, 0.0, 0.02, 0.02),
        (missing, 0.0, 0.0, float("inf")),
        (one_more, 0.0, 0.0, float("inf")),
    ],
)
def test_a_difference_on_either_side_is_seen(change, score, box, worst):
    ours, theirs = answers(), answers()
    change(*theirs)
    for pair in ((ours, theirs), (theirs, ours)):
        parity = measure_parity(*pair, TILE)
        assert (parity.score, parity.box, parity.worst) == pytest.approx((score, box, worst), abs=1e-6)


def test_a_model_that_is_sure_of_nothing_is_compared_by_its_best():
    boxes, scores = answers()
    parity = measure_parity((boxes, scores / 100), (boxes + 1, scores / 100), TILE)
    assert parity.detections == 2 * 2 * export.COMPARED_AT_LEAST
    assert parity.worst == pytest.approx(1 / TILE, rel=0.01)
