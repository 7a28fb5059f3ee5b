"""Predictions: what they refuse, and that disk gives back exactly what was saved."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from engine.errors import BadInput
from engine.inference.predictions import Predictions

FIELDS = [field.name for field in dataclasses.fields(Predictions)]


def arrays() -> dict[str, np.ndarray]:
    return {
        "tile_ids": np.array([3, 7, 9]),
        "embeddings": np.arange(12, dtype=np.float32).reshape(3, 4),
        "tile_index": np.array([0, 0, 2]),
        "boxes_tile": np.array([[0, 0, 4, 4], [1, 2, 3, 9], [5, 5, 6, 8]], dtype=np.float32),
        "labels": np.array([1, 0, 1]),
        "scores": np.array([0.9, 0.25, 1.0], dtype=np.float32),
        "class_scores": np.array([[0.1, 0.9], [0.25, 0.125], [0.5, 1.0]], dtype=np.float32),
        "drift": np.array([0.0, 0.5, 0.125], dtype=np.float32),
        "query_entropy": np.array([0.5, 0.25, 1.0], dtype=np.float32),
        "saturated": np.array([False, True, False]),
        "features": np.arange(6, dtype=np.float16).reshape(3, 2),
    }


def nothing(tiles: int, classes: int) -> Predictions:
    return Predictions(
        tile_ids=np.arange(tiles),
        embeddings=np.zeros((tiles, 2)),
        tile_index=np.zeros(0),
        boxes_tile=np.zeros((0, 4)),
        labels=np.zeros(0),
        scores=np.zeros(0),
        class_scores=np.zeros((0, classes)),
        drift=np.zeros(0),
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tile_ids", np.array([7, 3, 9]), "strictly rising"),
        ("tile_ids", np.array([3, 3, 9]), "strictly rising"),
        ("embeddings", np.zeros((2, 4)), "embeddings of shape"),
        ("embeddings", np.full((3, 4), np.nan), "finite"),
        ("tile_index", np.array([0, 2, 0]), "order of their tiles"),
        ("tile_index", np.array([0, 0, 3]), "tile_index"),
        ("boxes_tile", np.zeros((3, 5)), "boxes_tile of shape"),
        ("boxes_tile", np.array([[0, 0, 4, 4], [3, 2, 1, 9], [5, 5, 6, 8]]), "x1 < x2"),
        ("labels", np.array([1, 0, 2]), "classes in"),
        ("labels", np.array([1, 0]), "labels of shape"),
        ("scores", np.array([0.9, 0.25, 1.5]), "scores"),
        ("scores", np.array([0.9, np.nan, 0.5]), "scores"),
        ("class_scores", np.zeros(3), "class_scores of shape"),
        ("class_scores", np.zeros((3, 0)), "one column a class"),
        ("drift", np.array([0.0, -0.5, 0.0]), "drift"),
        ("queries", np.array([1, 2]), "queries of shape"),
        ("query_entropy", np.zeros(2), "query_entropy of shape"),
        ("query_entropy", np.array([0, np.nan, 1]), "query_entropy"),
        ("saturated", np.zeros(4, dtype=bool), "saturated of shape"),
        ("features", np.zeros((2, 2)), "features of shape"),
    ],
)
def test_a_wrong_field_is_refused_by_name(field: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Predictions(**{**arrays(), field: value})


def test_of_tile_gives_that_tile_s_detections() -> None:
    predictions = Predictions(**arrays())
    first = predictions.of_tile(3)
    assert first.xyxy.tolist() == [[0, 0, 4, 4], [1, 2, 3, 9]]
    assert first.labels.tolist() == [1, 0]
    assert first.scores is not None
    assert first.scores.tolist() == pytest.approx([0.9, 0.25])
    assert len(predictions.of_tile(7)) == 0
    with pytest.raises(BadInput, match="no predictions for tile 8"):
        predictions.of_tile(8)


def test_queries_are_numbered_within_the_tile_where_they_are_not_given() -> None:
    assert Predictions(**arrays()).queries.tolist() == [0, 1, 0]


@pytest.mark.parametrize("original", [Predictions(**arrays()), nothing(3, 2), nothing(0, 1)], ids=["full", "no box", "empty"])
def test_disk_gives_back_what_was_saved(tmp_path: Path, original: Predictions) -> None:
    original.save(tmp_path / "p", {"model": "nano"})
    loaded = Predictions.load(tmp_path / "p")
    for name in FIELDS:
        found, saved = getattr(loaded, name), getattr(original, name)
        if saved is None:
            assert found is None
            continue
        assert found.dtype == saved.dtype
        assert found.shape == saved.shape
        np.testing.assert_array_equal(found, saved)


def test_saving_again_replaces_the_whole(tmp_path: Path) -> None:
    Predictions(**arrays()).save(tmp_path / "p")
    nothing(5, 2).save(tmp_path / "p")
    assert len(Predictions.load(tmp_path / "p")) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize(
    "name", ["detections.parquet", "embeddings.npy", "tile_ids.npy", "query_entropy.npy", "saturated.npy", "features.npy"]
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    Predictions(**arrays()).save(tmp_path / "p")
    path = tmp_path / "p" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=name):
        Predictions.load(tmp_path / "p")


def test_predictions_of_the_first_version_are_still_read(tmp_path: Path) -> None:
    given = {name: value for name, value in arrays().items() if name not in ("query_entropy", "saturated", "features")}
    Predictions(**given).save(tmp_path / "p")
    manifest = tmp_path / "p" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 1'))
    assert Predictions.load(tmp_path / "p").features is None
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(BadInput, match="version 9"):
        Predictions.load(tmp_path / "p")


def test_weak_detections_have_no_features() -> None:
    weak = {**arrays(), "scores": np.array([0.9, 0.05, 1.0]), "features": np.zeros((2, 2), dtype=np.float16)}
    assert Predictions(**weak).described.tolist() == [True, False, True]


def test_absent_or_half_deleted_predictions_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tilehawk predict"):
        Predictions.load(tmp_path / "p")
    Predictions(**arrays()).save(tmp_path / "p")
    (tmp_path / "p" / "manifest.json").unlink()
    with pytest.raises(BadInput, match="tilehawk predict"):
        Predictions.load(tmp_path / "p")


def test_a_save_that_fails_half_way_leaves_the_old_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Predictions(**arrays()).save(tmp_path / "p")

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", disk_full)
    with pytest.raises(OSError, match="No space"):
        nothing(5, 2).save(tmp_path / "p")
    assert len(Predictions.load(tmp_path / "p")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
