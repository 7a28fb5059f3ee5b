import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from engine.imagery.orientation import is_turned, set_upright

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def picture(path, orientation):
    """A picture with noise whose EXIF notes an orientation, or none."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)
    return path


def shown(file):
    """The pixels as tools show them that follow the note."""
    with Image.open(file) as opened:
        return np.asarray(ImageOps.exif_transpose(opened))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turn_is_found_and_taken_out_and_nothing_else(tmp_path, name, orientation):
    file = picture(tmp_path / name, orientation)
    before = file.read_bytes()
    assert is_turned(file)
    set_upright(file)
    after = file.read_bytes()
    assert not is_turned(file)
    with Image.open(file) as opened:
        assert (opened.getexif()[0x0112], opened.getexif()[0x010F]) == (1, "maker")
    assert np.array_equal(shown(file), shown(picture(tmp_path / f"upright{name}", None)))
    assert len(after) == len(before)
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= (5 if name.endswith("png") else 1)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("orientation", [None, 1])
def test_a_picture_that_stands_upright_is_left_alone(tmp_path, name, orientation):
    file = picture(tmp_path / name, orientation)
    before = file.read_bytes()
    assert not is_turned(file)
    set_upright(file)
    assert file.read_bytes() == before


@given(
    content=st.binary(max_size=60),
    start=st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x20Exif\0\0II*\0", b"MM\0*", b"\x89PNG\r\n\x1a\n"]),
)
def test_bytes_that_are_no_picture_are_not_turned_or_stay_as_long(content, start, tmp_path_factory):
    file = tmp_path_factory.mktemp("any") / "a"
    file.write_bytes(start + content)
    set_upright(file)
    assert not is_turned(file)
    assert file.stat().st_size >= len(start + content)
