import numpy as np
import pytest

from connectors.formats import coco, dota
from connectors.formats.contract import ReadOptions
from engine.errors import BadInput

FILE = """imagesource:GoogleEarth
gsd:0.255589285596
10 20 40 20 40 30 10 30 ship 0

25 5 35 15 25 25 15 15 large-vehicle 1
"""


@pytest.fixture
def scenes(fake):
    return fake("frames").Scenes(("in/P0706.png", 100, 50), ("in/P1888.png", 60, 60))


def write(path, text=FILE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_turned_box_becomes_the_upright_hull_of_its_corners(tmp_path, scenes):
    found = dota.read(write(tmp_path / "P0706.txt"), scenes)
    assert (found.label_set.names, found.source, found.unusable, found.difficult) == (("large-vehicle", "ship"), "P0706.txt", (), 0)
    (image,) = found.images
    assert (image.image, image.width, image.height) == ("P0706.txt", 100, 50)
    assert image.boxes_scene.xyxy.tolist() == [[10, 20, 40, 30], [15, 5, 35, 25]]
    assert image.boxes_scene.labels.tolist() == [1, 0]


def test_difficult_objects_are_dropped_and_counted_where_that_is_asked_for(tmp_path, scenes):
    text = FILE + "1 1 9 1 9 9 1 9 plane 2\n1 1 9 1 9 9 1 9 plane\n"
    found = dota.read(write(tmp_path / "P0706.txt", text), scenes, ReadOptions(difficult="drop"))
    assert (found.difficult, len(found.images[0].boxes_scene)) == (2, 2)


def test_a_folder_is_read_with_its_subfolders_an_image_without_objects_too(tmp_path, scenes):
    write(tmp_path / "labelTxt" / "P0706.txt")
    write(tmp_path / "labelTxt" / "deep" / "P1888.txt", "imagesource:GoogleEarth\ngsd:null\n")
    found = dota.read(tmp_path / "labelTxt", scenes)
    assert {image.image: len(image.boxes_scene) for image in found.images} == {"P0706.txt": 2, "deep/P1888.txt": 0}
    assert found.source == "labelTxt"


def test_corners_outside_are_cut_off_and_what_is_no_box_is_named_by_its_line(tmp_path, scenes):
    lines = ["90 40 120 40 120 70 90 70", "200 0 210 0 210 9 200 9", "1 nan 2 2 3 3 4 4", "5 5 5 5 5 5 5 5", "1e999 0 1 1 2 2 3 3"]
    text = "".join(f"{line} ship 0\n" for line in lines)
    found = dota.read(write(tmp_path / "P0706.txt", text), scenes)
    assert found.images[0].boxes_scene.xyxy.tolist() == [[90, 40, 100, 50]]
    assert [box.reason.partition(":")[0] for box in found.unusable] == ["line 2", "line 3", "line 4", "line 5"]
    assert ["finite" in box.reason for box in found.unusable] == [False, True, False, True]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("1 2 3 4 5 6 7 8", "8 fields"),
        ("1 2 3 4 5 6 7 8 large vehicle 0", "11 fields"),
        ("1 2 3 4 5 6 7 x ship 0", "no eight numbers"),
        ("1 2 3 4 5 6 7 8 ship yes", "'yes' for difficult"),
        ("ship", "1 fields"),
    ],
)
def test_a_line_that_is_no_object_refuses_all_and_is_named(tmp_path, line, named):
    write(tmp_path / "good.txt")
    write(tmp_path / "bad.txt", f"gsd:1\n{line}\n")
    with pytest.raises(BadInput, match=rf"bad\.txt, line 2: .*{named}"):
        dota.read(tmp_path)


def test_many_such_lines_are_named_in_part_and_counted(tmp_path):
    with pytest.raises(BadInput, match=r"line 5: 1 fields; and 37 more lines"):
        dota.read(write(tmp_path / "bad.txt", "ship\n" * 42))


@pytest.mark.guarantee("G14")
def test_bytes_that_are_no_text_a_link_that_leads_out_and_an_empty_folder_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInput, match="holds no txt file"):
        dota.read(tmp_path / "a")
    (tmp_path / "a" / "latin.txt").write_bytes(FILE.replace("ship", "bâteau").encode("latin-1"))
    with pytest.raises(BadInput, match=r"latin\.txt is no UTF-8 text: byte \d+ is 0xe2"):
        dota.read(tmp_path / "a")
    (tmp_path / "a" / "latin.txt").unlink()
    write(tmp_path / "secret.txt", "secret")
    (tmp_path / "a" / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(BadInput, match="link that leads out") as refused:
        dota.read(tmp_path / "a")
    assert "'secret'" not in str(refused.value)


def test_real_files_are_the_boxes_of_the_json_beside_them(real_data, fake):
    folder = real_data / "dota_sample"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    reference = {image.image: image for image in coco.read(folder / "annotations.json").images}
    scenes = fake("frames").Scenes(*((image.image, image.width, image.height) for image in reference.values()))
    for name in ("P0706", "P1888"):
        found = dota.read(folder / f"{name}.txt", scenes)
        assert found.unusable == ()
        assert np.array_equal(found.images[0].boxes_scene.xyxy, reference[f"{name}.png"].boxes_scene.xyxy)
    marks = sum(line.split()[-1] == "1" for line in (folder / "P0706.txt").read_text().splitlines()[2:])
    assert dota.read(folder / "P0706.txt", scenes, ReadOptions(difficult="drop")).difficult == marks > 0
