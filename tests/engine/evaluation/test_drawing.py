import numpy as np
import pytest
from PIL import Image

from engine.boxes import Boxes
from engine.errors import UsageError
from engine.evaluation.drawing import (
    PALETTE,
    TRUTH_COLOUR,
    TRUTH_GAP,
    CurvePoint,
    close_up,
    contact_sheet,
    draw_boxes,
    learning_curve,
    training_curves,
    write_png,
)
from engine.label_set import LabelSet

GREY = np.full((40, 60, 3), 90, dtype=np.uint8)
PREDICTED = Boxes(np.array([[10.0, 12.0, 30.0, 24.0]]), [1], [0.75])


def painted(image, colour):
    """Bounds (x1, y1, x2, y2) of the pixels of ``colour``, right and bottom excluded."""
    rows, columns = np.nonzero((image == colour).all(2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("scale", [1, 3])
def test_a_box_is_outlined_on_its_own_pixels_and_the_rest_stays(scale):
    image = draw_boxes(GREY, PREDICTED, width=1, scale=scale)
    assert image.shape == (40 * scale, 60 * scale, 3)
    assert painted(image, PALETTE[1]) == [10 * scale, 12 * scale, 30 * scale, 24 * scale]
    assert (image == PALETTE[1]).all(2).sum() == 2 * scale * (20 + 12) - 4
    assert (image[15 * scale, 15 * scale] == 90).all()


def test_the_picture_given_is_not_changed():
    before = GREY.copy()
    draw_boxes(GREY, PREDICTED, PREDICTED)
    assert np.array_equal(GREY, before)


def test_truth_is_dashed_in_white_and_black():
    image = draw_boxes(GREY, Boxes.empty(scored=True), Boxes(np.array([[4.0, 4.0, 36.0, 28.0]]), [0]))
    assert painted(image, TRUTH_COLOUR) == [4, 4, 36, 28]
    assert 12 <= (image[4, 4:36] == TRUTH_GAP).all(1).sum() <= 16


def test_the_strongest_box_lies_on_top():
    both = Boxes(np.array([[10.0, 12.0, 30.0, 24.0], [10.0, 12.0, 30.0, 24.0]]), [0, 1], [0.9, 0.4])
    assert (draw_boxes(GREY, both, width=1)[12, 10] == PALETTE[0]).all()


def test_captions_are_drawn_where_names_are_given():
    plain, named = draw_boxes(GREY, PREDICTED), draw_boxes(GREY, PREDICTED, label_set=LabelSet(("car", "tree")))
    assert not np.array_equal(plain, named)
    assert (named[:12] == PALETTE[1]).all(2).any()


@pytest.mark.parametrize("box", [[-20.0, -20.0, 200.0, 200.0], [59.5, 39.5, 59.6, 39.6], [0.0, 0.0, 0.25, 0.25]])
def test_boxes_beyond_the_picture_or_below_a_pixel_are_no_error(box):
    assert draw_boxes(GREY, Boxes(np.array([box]), [9], [1.0]), Boxes(np.array([box]), [9])).shape == GREY.shape


@pytest.mark.parametrize("image", [GREY[..., 0], GREY.astype(np.float32), GREY[..., :2], GREY[:0]])
def test_what_is_no_rgb_picture_is_refused(image, tmp_path):
    with pytest.raises(UsageError, match="uint8"):
        draw_boxes(image, PREDICTED)
    with pytest.raises(UsageError, match="uint8"):
        write_png(tmp_path / "a.png", image)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"width": 0}, {"scale": 0}])
def test_no_line_and_no_scale_are_refused(wrong):
    with pytest.raises(UsageError):
        draw_boxes(GREY, PREDICTED, **wrong)


def test_a_png_holds_the_pixels(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "new" / "a.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), picture)


@pytest.mark.parametrize(("number", "columns", "shape"), [(1, 4, (1, 1)), (4, 4, (1, 4)), (5, 4, (2, 4)), (3, 1, (3, 1))])
def test_a_sheet_has_a_cell_for_each_picture(number, columns, shape, tmp_path):
    red = np.zeros((50, 50, 3), dtype=np.uint8)
    red[..., 0] = 255
    contact_sheet([(f"picture {k}", red) for k in range(number)], tmp_path / "sheet.png", columns=columns, cell=50)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[:2] == (shape[0] * 76 + 8, shape[1] * 58 + 8)
    assert (sheet == [255, 0, 0]).all(2).sum() == number * 2500


def test_pictures_of_any_size_and_long_captions_fit_their_cell(tmp_path):
    wide = np.full((10, 400, 3), 255, dtype=np.uint8)
    contact_sheet([("a caption much too long for its cell " * 3, wide), ("", GREY)], tmp_path / "sheet.png", cell=60)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (94, 144, 3)
    assert (sheet[:, 68:76] == sheet[0, 0]).all()


@pytest.mark.parametrize("arguments", [([], {}), ([("a", GREY)], {"columns": 0}), ([("a", GREY)], {"cell": 0})])
def test_an_impossible_sheet_is_refused(arguments, tmp_path):
    pictures, options = arguments
    with pytest.raises(UsageError):
        contact_sheet(pictures, tmp_path / "sheet.png", **options)


def test_a_learning_curve_is_a_picture_that_changes_with_its_points(tmp_path):
    points = [CurvePoint(0, 0.0, 0.0), CurvePoint(10, 0.1, 0.3), CurvePoint(22.5, 0.2, 0.45)]
    learning_curve(points, tmp_path / "a.png")
    learning_curve(points, tmp_path / "same.png")
    learning_curve(points[:2], tmp_path / "b.png")
    pictures = [np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("a.png", "same.png", "b.png")]
    assert pictures[0].shape == (504, 840, 3)
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_a_learning_curve_of_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError):
        learning_curve([], tmp_path / "a.png")


def test_a_close_up_shows_the_box_in_the_middle_and_black_beyond_the_image():
    image = np.full((40, 40, 3), 90, np.uint8)
    image[0:20, 0:20] = 200
    view = close_up(image, (0, 0, 20, 20), side=80)
    assert view.shape == (80, 80, 3)
    assert view[40, 40].tolist() == [200, 200, 200]
    assert view[5, 5].tolist() == [0, 0, 0]
    assert view[75, 75].tolist() == [90, 90, 90]
    assert view[20, 40].tolist() == [255, 214, 10]


def test_a_close_up_of_a_small_box_shows_some_ground():
    image = np.zeros((64, 64, 3), np.uint8)
    view = close_up(image, (30, 30, 34, 34), side=64)
    framed = np.argwhere(view.any(2))
    assert framed.min(0).tolist() == [28, 28]
    assert framed.max(0).tolist() == [36, 36]


def test_training_curves_are_a_diagram_each(tmp_path):
    curves = {name: ([4, 8, 12], [3.0, 2.0, 1.0]) for name in ("loss", "loss.a", "loss.b", "loss.c")}
    training_curves({"a": curves}, tmp_path / "four.png")
    training_curves({"a": {"loss": ([4], [1.0])}}, tmp_path / "one.png")
    with Image.open(tmp_path / "four.png") as four, Image.open(tmp_path / "one.png") as one:
        assert (four.width, four.height) == (3 * one.width, 2 * one.height)
    with pytest.raises(UsageError, match="no numbers"):
        training_curves({}, tmp_path / "none.png")
    with pytest.raises(UsageError, match="no numbers"):
        training_curves({"a": {}, "b": curves}, tmp_path / "none.png")


def test_curves_of_two_runs_are_drawn_into_the_diagrams_of_the_first(tmp_path):
    first, second = {"loss": ([4, 8], [3.0, 2.0])}, {"loss": ([4, 8], [1.0, 0.5]), "loss.b": ([4], [1.0])}
    training_curves({"a": first}, tmp_path / "alone.png")
    training_curves({"a": first, "b": second}, tmp_path / "both.png")
    training_curves({"a": first, "c": {}}, tmp_path / "without.png")
    pictures = [np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).reshape(-1, 3) for name in ("alone", "both", "without")]
    assert len({len(each) for each in pictures}) == 1
    orange = [int(((each[:, 0] > 200) & (each[:, 1] < 120) & (each[:, 2] < 60)).sum()) for each in pictures]
    assert orange[0] == orange[2] == 0
    assert orange[1] > 20
