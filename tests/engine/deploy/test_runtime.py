import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from engine.deploy.runtime import ExportDescription, available_threads, load_detector
from engine.errors import CheckpointRefused, UsageError
from engine.files import sha256_of


@pytest.fixture
def bright(fake):
    return fake("bright_squares")


@pytest.fixture
def exported(bright, tmp_path):
    return bright.write_export(tmp_path / "exported")


@pytest.fixture(params=["fake", "onnx"])
def detector(request, bright, tmp_path):
    """The fake and the real one: both must keep the contract of ``TileDetector``."""
    if request.param == "fake":
        return bright.BrightSquares(64, [])
    return load_detector(bright.write_export(tmp_path / "exported"), threads=1, device="cpu")


def pictures(number, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_detector_answers_every_picture_of_a_batch(detector, batch):
    boxes, scores = detector.run(pictures(batch))
    assert boxes.shape == (batch, 64, 4)
    assert scores.shape == (batch, 64, len(detector.label_set))
    assert boxes.dtype == scores.dtype == np.float32
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_a_detector_answers_each_picture_by_itself(detector):
    together = detector.run(pictures(3))
    for k in range(3):
        alone = detector.run(pictures(3)[k : k + 1])
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_array_equal(whole[k], part[0])


def test_a_detector_sees_red_and_green_where_they_are(detector, bright):
    picture = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    picture[0, 8:16, 24:32, 0] = 255
    picture[0, 40:48, 0:8, 1] = 51
    boxes, scores = detector.run(picture)
    found = sorted(
        (boxes[0, query].tolist(), int(label), round(float(scores[0, query, label]), 5)) for query, label in np.argwhere(scores[0] > 0)
    )
    assert found == [([0, 40, 8, 48], 1, 0.2), ([24, 8, 32, 16], 0, 1.0)]


def test_the_runtime_and_the_fake_agree(bright, exported):
    real = load_detector(exported, threads=1, device="cpu").run(pictures(2))
    for computed, expected in zip(real, bright.BrightSquares(64, []).run(pictures(2)), strict=True):
        np.testing.assert_allclose(computed, expected, atol=1e-6)


def test_it_reports_what_the_session_uses_and_what_the_export_says(exported):
    detector = load_detector(exported, threads=2, device="cpu")
    assert detector.providers == tuple(detector.session.get_providers()) == ("CPUExecutionProvider",)
    assert detector.session.get_session_options().intra_op_num_threads == 2
    assert (detector.tile, detector.label_set.names) == (64, ("red", "green"))
    assert ExportDescription.read(exported).model == "bright"


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a GPU is there")
def test_a_device_that_falls_back_is_refused(exported):
    with pytest.raises(UsageError, match="CPUExecutionProvider"):
        load_detector(exported, threads=1, device="cuda")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a GPU is there")
def test_auto_takes_the_processor_where_there_is_no_gpu(exported):
    assert load_detector(exported, threads=1).providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused(exported, threads):
    with pytest.raises(UsageError, match="threads"):
        load_detector(exported, threads=threads)


def test_the_process_has_at_least_one_thread():
    assert available_threads() >= 1


@pytest.mark.parametrize("missing", ["", "model.onnx", "export.json"])
def test_a_missing_part_is_named(exported, missing, tmp_path):
    if missing:
        (exported / missing).unlink()
    with pytest.raises(CheckpointRefused, match=missing or "nowhere") as refused:
        load_detector(exported if missing else tmp_path / "nowhere", threads=1)
    assert refused.value.exit_code == 3
    assert "tilehawk export" in str(refused.value)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"tile": 64}', '{"model": "m", "tile": "x", "classes": ["a"], "fingerprint": ""}'],
)
def test_a_description_that_is_no_description_is_refused(exported, content):
    (exported / "export.json").write_text(content)
    with pytest.raises(CheckpointRefused, match=r"export\.json is damaged"):
        load_detector(exported, threads=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"tile": 32}, "takes", id="a tile that is not the graph's"),
        pytest.param({"tile": 0}, "tile = 0", id="no tile"),
        pytest.param({"classes": ["green", "red"]}, "fingerprint", id="classes in another order"),
        pytest.param({"classes": ["red", "red"]}, "stands twice", id="a class twice"),
        pytest.param({"fingerprint": "0" * 16}, "fingerprint", id="a foreign fingerprint"),
        pytest.param({"sha256": "0" * 64}, "SHA-256", id="another graph"),
    ],
)
def test_a_description_that_contradicts_the_model_is_refused(bright, tmp_path, changes, message):
    with pytest.raises(CheckpointRefused, match=message):
        load_detector(bright.write_export(tmp_path / "exported", described=changes), threads=1)


def test_the_right_checksum_is_accepted(exported):
    path = exported / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": sha256_of(exported / "model.onnx")}))
    assert load_detector(exported, threads=1).tile == 64


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_graph_is_refused(exported, share):
    path = exported / "model.onnx"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointRefused, match=r"model\.onnx"):
        load_detector(exported, threads=1)


class _Counts:
    """A session that keeps how many pictures it was given at a time."""

    def __init__(self, session):
        self.session, self.given = session, []

    def run(self, names, feed):
        self.given.append(len(feed["image"]))
        return self.session.run(names, feed)


@pytest.mark.parametrize(("threads", "passes"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1])])
def test_a_cpu_answers_for_as_many_pictures_at_once_as_it_has_threads(exported, threads, passes):
    detector = load_detector(exported, threads=threads, device="cpu")
    counted = dataclasses.replace(detector, session=_Counts(detector.session))
    whole = dataclasses.replace(counted, at_once=None)
    for part, together in zip(counted.run(pictures(5)), whole.run(pictures(5)), strict=True):
        np.testing.assert_array_equal(part, together)
    assert counted.session.given == [*passes, 5]


class _Answers:
    def __init__(self, boxes, scores):
        self.answer = boxes, scores

    def run(self, names, feed):
        return [np.asarray(each, dtype=np.float32) for each in self.answer]


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        pytest.param(np.zeros((1, 5, 4)), np.zeros((1, 5, 3)), "scores", id="three classes"),
        pytest.param(np.zeros((1, 5, 5)), np.zeros((1, 5, 2)), "boxes", id="five coordinates"),
        pytest.param(np.zeros((1, 4, 4)), np.zeros((1, 5, 2)), "boxes", id="a box short"),
        pytest.param(np.full((1, 5, 4), np.nan), np.zeros((1, 5, 2)), "not finite", id="no number"),
        pytest.param(np.zeros((1, 5, 4)), np.full((1, 5, 2), 1.5), "outside", id="logits for scores"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_refused(exported, boxes, scores, message):
    detector = dataclasses.replace(load_detector(exported, threads=1, device="cpu"), session=_Answers(boxes, scores))
    with pytest.raises(CheckpointRefused, match=message):
        detector.run(pictures(1))
