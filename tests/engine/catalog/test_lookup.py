import pytest

from engine.catalog.lookup import SceneNames

NAMES = SceneNames(
    [
        ("data/train/001.jpg", 1),
        ("data/val/001.jpg", 2),
        ("OSBS_029.tif", 3),
        ("plain.png", 4),
        ("deep/plain.png", 5),
        ("copy.png", 4),
        ("a.b.tif", 6),
    ]
)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("data/train/001.jpg", [1]),
        ("val/001.jpg", [2]),
        ("val\\001.jpg", [2]),
        ("./val/001.jpg", [2]),
        ("001.jpg", [1, 2]),
        ("plain.png", [4]),
        ("elsewhere/OSBS_029.tif", [3]),
        ("OSBS_029.xml", [3]),
        ("OSBS_029", [3]),
        ("copy.png", [4]),
        ("plain.jpg", [4, 5]),
        ("a.b.png", [6]),
        ("a.png", []),
        ("1.jpg", []),
        ("", []),
        ("..", []),
    ],
)
def test_an_image_is_found_by_the_most_exact_reading_of_its_name(image, found):
    assert NAMES.find(image) == found


def test_a_scene_has_as_many_names_as_it_came_in_under():
    assert [NAMES.names_of(scene_id) for scene_id in (1, 4, 99)] == [1, 2, 0]
