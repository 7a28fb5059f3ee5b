import numpy as np
import pytest

from engine.errors import Cancelled
from engine.inference.detect import detect_windows
from engine.inference.merge import merge_windows
from engine.progress import silent
from engine.records import Window


class ArrayReader:
    """A scene in memory; black is no data."""

    def __init__(self, pixels):
        self.pixels = pixels

    def read(self, window):
        x1, y1, x2, y2 = window.xyxy
        return self.pixels[y1:y2, x1:x2]

    def valid_share(self, window):
        return float(self.read(window).any(2).mean())


WIDTH, HEIGHT = 112, 80
WINDOWS = [Window(x, y, 64, 64) for y in (0, 16) for x in (0, 48)]


@pytest.fixture
def scene():
    pixels = np.full((HEIGHT, WIDTH, 3), 10, dtype=np.uint8)
    pixels[24:32, 56:64, 0] = 255
    pixels[72:80, 104:112, 1] = 204
    return pixels


@pytest.fixture
def bright(fake):
    return fake("bright_squares").BrightSquares(64, [])


def detect(detector, pixels, windows=WINDOWS, *, batch_size=2, score_threshold=0.5, minimum_valid_share=0.01, progress=silent):
    return detect_windows(
        detector,
        ArrayReader(pixels),
        windows,
        batch_size=batch_size,
        score_threshold=score_threshold,
        minimum_valid_share=minimum_valid_share,
        progress=progress,
    )


def test_boxes_come_in_the_scene_frame_with_their_class_and_score(bright, scene):
    boxes = merge_windows(detect(bright, scene), WIDTH, HEIGHT)
    assert boxes.xyxy.tolist() == [[56, 24, 64, 32], [104, 72, 112, 80]]
    assert boxes.labels.tolist() == [0, 1]
    np.testing.assert_allclose(boxes.scores, [1.0, 0.8], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 100])
def test_the_batch_size_makes_no_difference(bright, scene, batch_size):
    found = detect(bright, scene, batch_size=batch_size)
    assert [window for window, _ in found] == WINDOWS
    for (_, boxes), (_, alone) in zip(found, detect(bright, scene, batch_size=1), strict=True):
        assert np.array_equal(boxes.xyxy, alone.xyxy)
        assert np.array_equal(boxes.scores, alone.scores)
    assert max(bright.batches) <= batch_size


def test_windows_without_data_are_left_out(bright, scene):
    scene[:, 48:] = 0
    assert [window.x for window, _ in detect(bright, scene, minimum_valid_share=0.3)] == [0, 0]
    assert sum(bright.batches) == 2


def test_a_scene_without_data_never_calls_the_detector(bright):
    assert detect(bright, np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)) == []
    assert bright.batches == []


def test_a_scene_smaller_than_the_tile_is_padded_and_its_boxes_clipped(bright):
    pixels = np.full((20, 12, 3), 255, dtype=np.uint8)
    [(_, boxes)] = detect(bright, pixels, [Window(0, 0, 12, 20)], score_threshold=0.4)
    assert boxes.xyxy[:, 2:].max(0).tolist() == [12, 20]
    assert len(boxes) == 5


@pytest.mark.parametrize(("threshold", "number"), [(0.1, 2), (0.85, 1), (1.0, 1)])
def test_only_queries_at_or_above_the_threshold_are_kept(bright, scene, threshold, number):
    assert len(merge_windows(detect(bright, scene, score_threshold=threshold), WIDTH, HEIGHT)) == number


def test_progress_is_told_after_each_batch(bright, scene):
    told = []
    detect(bright, scene, batch_size=3, progress=lambda done, total, message: told.append((done, total)))
    assert told == [(0, 4), (3, 4), (4, 4)]


def test_cancelling_stops_at_the_batch(bright, scene):
    def stop(done, total, message):
        if done:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        detect(bright, scene, batch_size=1, progress=stop)
    assert bright.batches == [1]
