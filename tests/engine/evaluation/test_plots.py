"""Pictures of an analysis: there, of the size asked for, and telling."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.boxes import Boxes
from engine.evaluation.analysis import Analysis, analyse
from engine.evaluation.drawing import PALETTE
from engine.evaluation.plots import DIAGRAMS, WORST_SHEET, TileView, worst_name, write_diagrams, write_worst_tiles
from engine.evaluation.worst import TileErrors
from engine.label_set import LabelSet

LABELS = LabelSet.of(["_car", "$ship", "树", "never seen"])
Pairs = list[tuple[Boxes, Boxes]]


def diagrams(analysis: Analysis, folder: Path) -> dict[str, np.ndarray]:
    return {file.stem: np.asarray(Image.open(file).convert("RGB")) for file in write_diagrams(analysis, folder)}


def test_every_diagram_is_a_picture_that_changes_with_the_threshold_only_where_it_matters(
    scene: Callable[..., Pairs], tmp_path: Path
) -> None:
    pairs = scene(0, 10, 10)
    first = diagrams(analyse(pairs, LABELS, range(10)), tmp_path / "a")
    strict = diagrams(analyse(pairs, LABELS, range(10), threshold=0.9), tmp_path / "b")
    assert set(first) == set(strict) == set(DIAGRAMS)
    assert {picture.shape for picture in first.values()} == {(576, 720, 3)}
    assert {name for name in first if not np.array_equal(first[name], strict[name])} == {"thresholds", "confusion"}


def test_nothing_predicted_and_many_classes_are_drawn_too(tmp_path: Path) -> None:
    many = LabelSet.of([f"class {number}" for number in range(40)])
    pairs = [(Boxes(np.array([[0.0, 0, 9, 9]]), [3]), Boxes.empty(scored=True))]
    assert len(diagrams(analyse(pairs, many, [1]), tmp_path)) == len(DIAGRAMS)


@pytest.mark.parametrize(("width", "scale"), [(32, 4), (320, 2), (700, 1)])
def test_worst_tiles_are_drawn_with_what_was_said_each_and_on_a_sheet(width: int, scale: int, tmp_path: Path) -> None:
    said = Boxes(np.array([[4.0, 14, 28, 28]]), [1], [0.75])
    view = TileView(TileErrors(7, 0, 1, 1, 0.0), np.full((32, width, 3), 90, dtype=np.uint8), Boxes(said.xyxy + 2, [0]), said)
    files = write_worst_tiles([view, view], tmp_path, LABELS)
    assert [file.stem for file in files] == [worst_name(1), worst_name(2), WORST_SHEET]
    drawn = np.asarray(Image.open(files[0]))
    assert drawn.shape == (32 * scale, width * scale, 3)
    assert (drawn[27 * scale] == PALETTE[1]).all(1).any()


def test_no_worst_tile_is_no_file(tmp_path: Path) -> None:
    assert write_worst_tiles([], tmp_path, LABELS) == []
    assert list(tmp_path.iterdir()) == []
