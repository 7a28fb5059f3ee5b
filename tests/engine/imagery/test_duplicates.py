import numpy as np

from engine.imagery.duplicates import pixel_hash


def test_equal_pixels_have_one_hash_whatever_their_layout_in_memory():
    image = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    assert pixel_hash(image) == pixel_hash(np.asfortranarray(image))


def test_another_pixel_or_another_shape_has_another_hash():
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    other = image.copy()
    other[3, 5, 2] = 1
    assert len({pixel_hash(image), pixel_hash(other), pixel_hash(image.reshape(6, 4, 3))}) == 3
