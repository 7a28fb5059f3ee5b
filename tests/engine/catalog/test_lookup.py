import pytest

from engine.catalog.lookup import SceneFrames, SceneNames, names_of_twins
from engine.catalog.tiles import add_alias
from engine.catalog.workspace import Workspace
from engine.records import GeoReference, SceneFrame

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
        ("upload/val/001.jpg", [2]),
        ("labels/train/001.txt", [1]),
        ("labels/001.txt", [1, 2]),
        ("OSBS_029.tif.txt", [3]),
        ("a.b.tif.txt", [6]),
        ("", []),
        ("..", []),
    ],
)
def test_an_image_is_found_by_the_most_exact_reading_of_its_name(image, found):
    assert NAMES.find(image) == found


def test_a_scene_has_as_many_names_as_it_came_in_under():
    assert [NAMES.names_of(scene_id) for scene_id in (1, 4, 99)] == [1, 2, 0]


def test_scenes_of_one_name_are_found_by_the_name_that_exports_give_them(tmp_path, fake):
    with Workspace.create(tmp_path / "workspace") as workspace, workspace.session() as session:
        for content in ("2019", "2021", "other"):
            fake("catalog").add_scene(session, "b.tif" if content == "other" else "in/a.tif", content=content)
        written, names = names_of_twins(session), SceneNames.of(session)
        assert list(written) == [1, 2]
        for scene_id, name in written.items():
            stem = name.removesuffix(".tif")
            assert [names.find(each) for each in (name, f"{stem}.xml", f"labels/train/{stem}.txt")] == [[scene_id]] * 3
        assert names.find("scene-00000000/in/a.tif") == [1, 2]
        assert names.names_of(1) == 1


def test_frames_are_all_scenes_with_where_they_lie_and_are_found_by_any_name(tmp_path, fake):
    with Workspace.create(tmp_path / "workspace") as workspace:
        with workspace.session() as session:
            placed, _ = fake("catalog").add_scene(session, "in/a.tif", width=128, transform=(2, 0, 10, 0, -2, 20))
            fake("catalog").add_scene(session, "in/b.png")
            add_alias(session, placed, 1, "copy.tif")
        frames = SceneFrames(workspace)
        here = SceneFrame(1, "in/a.tif", 128, 64, GeoReference("EPSG:32617", (2, 0, 10, 0, -2, 20)))
        assert list(frames) == [here, SceneFrame(2, "in/b.png", 64, 64, None)]
        assert (frames.find("copy.xml"), frames.find("c.png")) == ([here], [])
