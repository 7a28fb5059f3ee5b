import numpy as np
import pytest
from PIL import Image

from engine.boxes import Boxes
from engine.catalog.annotations import mark_reviewed, set_label_set
from engine.catalog.schema import Annotation, Scene
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo
from engine.imagery.orientation import is_turned
from engine.records import GeoReference, Window
from engine.stages.export_labels import LabelExportConfig, WorkspacePictures, collect_labels
from engine.stages.ingest import IngestConfig, ingest

UTM = (0.5, 0.0, 400_000.0, 0.0, -0.5, 3_300_000.0)


def annotate(session, scene_id, *boxes, state="accepted"):
    for x1, y1, x2, y2, label in boxes:
        session.add(Annotation(scene_id=scene_id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source="x", state=state))


@pytest.fixture
def workspace(tmp_path, fake):
    """Two scenes of two tiles of 64 px each, and one that nobody touched: a (train, on the ground), b (dev), c (test)."""
    with Workspace.create(tmp_path / "workspace") as made:
        with made.session() as session:
            for name, split, transform in (("in/a.tif", "train", UTM), ("in/b.png", "dev", None), ("in/c.png", "test", None)):
                fake("catalog").add_scene(session, name, width=128, height=64, tile=64, split=split, transform=transform)
            set_label_set(session, ["ship", "plane"])
            annotate(session, 1, (5, 5, 20, 20, 0), (60, 5, 70, 20, 1), (100, 5, 120, 20, 1))
            annotate(session, 1, (30, 30, 40, 40, 0), state="withheld")
            annotate(session, 1, (40, 40, 50, 50, 0), state="deleted")
            mark_reviewed(session, [1, 3, 4], by="ana")
        yield made


def summary(collected):
    return {image.image: image.boxes_scene.xyxy.tolist() for image in collected.labels.images}


def test_a_scene_has_its_accepted_boxes_and_where_it_lies(workspace):
    collected = collect_labels(workspace, LabelExportConfig())
    assert summary(collected) == {"in/a.tif": [[5, 5, 20, 20], [60, 5, 70, 20], [100, 5, 120, 20]], "in/b.png": []}
    a, b = collected.labels.images
    assert (a.scene_id, a.width, a.height, a.split, a.georeference) == (1, 128, 64, "train", GeoReference("EPSG:32617", UTM))
    assert (b.split, b.georeference, b.window) == ("dev", None, None)
    assert a.boxes_scene.labels.tolist() == [0, 1, 1]
    assert (collected.labels.label_set.names, collected.partly_reviewed) == (("ship", "plane"), 1)


def test_of_reviewed_tiles_alone_a_scene_has_what_shows_there(workspace):
    collected = collect_labels(workspace, LabelExportConfig(reviewed=True))
    assert summary(collected) == {"in/a.tif": [[5, 5, 20, 20], [60, 5, 70, 20]], "in/b.png": []}
    assert collected.partly_reviewed == 1


def test_a_tile_has_what_shows_in_it_in_its_own_pixels(workspace):
    collected = collect_labels(workspace, LabelExportConfig(per="tile"))
    assert summary(collected) == {
        "in/a_0_0_64_64.png": [[5, 5, 20, 20], [60, 5, 64, 20]],
        "in/a_64_0_128_64.png": [[0, 5, 6, 20], [36, 5, 56, 20]],
        "in/b_0_0_64_64.png": [],
        "in/b_64_0_128_64.png": [],
    }
    second = collected.labels.images[1]
    assert (second.window, second.width, second.split, second.georeference) == (Window(64, 0, 64, 64), 64, "train", None)
    assert collected.partly_reviewed == 1
    reviewed = collect_labels(workspace, LabelExportConfig(per="tile", reviewed=True))
    assert list(summary(reviewed)) == ["in/a_0_0_64_64.png", "in/b_0_0_64_64.png", "in/b_64_0_128_64.png"]


@pytest.mark.parametrize("per", ["scene", "tile"])
def test_what_is_withheld_or_deleted_is_never_written(workspace, per):
    with workspace.session() as session:
        for row in session.query(Annotation):
            row.state = "withheld" if row.state == "accepted" else row.state
    for reviewed in (False, True):
        assert not any(summary(collect_labels(workspace, LabelExportConfig(per=per, reviewed=reviewed))).values())


@pytest.mark.parametrize("per", ["scene", "tile"])
def test_two_scenes_of_one_name_are_told_apart_whether_both_are_written_or_one(workspace, fake, per):
    with workspace.session() as session:
        scene, _ = fake("catalog").add_scene(session, "in/b.png", width=64, content="other pixels")
        first, second = (f"scene-{row.content_hash[:8]}/in/b" for row in (session.get_one(Scene, 2), scene))
        ends = {"scene": (".png",), "tile": ("_0_0_64_64.png", "_64_0_128_64.png")}[per]
        given = [f"in/a{end}" for end in {"scene": (".tif",)}.get(per, ends)]
    assert list(summary(collect_labels(workspace, LabelExportConfig(per=per)))) == [*given, *(first + end for end in ends)]
    with workspace.session() as session:
        annotate(session, scene.id, (1, 1, 9, 9, 0))
    assert list(summary(collect_labels(workspace, LabelExportConfig(per=per))))[-1] == second + ends[0]


def test_before_there_are_classes_or_boxes_there_is_nothing_to_write(tmp_path, fake):
    with Workspace.create(tmp_path / "new") as workspace:
        with pytest.raises(BadInput, match="no classes"):
            collect_labels(workspace, LabelExportConfig())
        with workspace.session() as session:
            fake("catalog").add_scene(session, "a")
            set_label_set(session, ["ship"])
        with pytest.raises(NothingToDo, match="nothing is annotated"):
            collect_labels(workspace, LabelExportConfig())
        with pytest.raises(NothingToDo, match="no reviewed tiles"):
            collect_labels(workspace, LabelExportConfig(per="tile", reviewed=True))


@pytest.fixture
def pictured(tmp_path, write_picture):
    """A workspace of one picture in tiles of 32, one box in it."""
    write_picture(tmp_path / "imagery" / "a.png", width=64, height=48)
    with Workspace.create(tmp_path / "pictured") as made:
        ingest(made, tmp_path / "imagery", IngestConfig(tile=32, overlap=0))
        with made.session() as session:
            set_label_set(session, ["ship"])
            annotate(session, 1, (34, 20, 44, 30, 0))
            mark_reviewed(session, [tile.id for tile in tiles(session)], by="ana")
        yield made


@pytest.mark.parametrize("link", [True, False])
def test_the_picture_of_a_scene_is_its_file(pictured, tmp_path, link):
    (image,) = collect_labels(pictured, LabelExportConfig()).labels.images
    with WorkspacePictures(pictured, link=link) as pictures:
        placed = pictures.place(image, tmp_path / "out" / "in" / "a.b")
    assert (placed, placed.is_symlink()) == (tmp_path / "out" / "in" / "a.b.png", link)
    assert placed.read_bytes() == (tmp_path / "imagery" / "a.png").read_bytes()


def test_the_picture_of_a_tile_is_its_window(pictured, tmp_path):
    scene = np.asarray(Image.open(tmp_path / "imagery" / "a.png"))
    images = collect_labels(pictured, LabelExportConfig(per="tile")).labels.images
    with WorkspacePictures(pictured, link=True) as pictures:
        for number, image in enumerate(images):
            placed = pictures.place(image, tmp_path / "out" / str(number))
            x1, y1, x2, y2 = image.window.xyxy
            assert np.array_equal(np.asarray(Image.open(placed)), scene[y1:y2, x1:x2])
            assert not placed.is_symlink()
    assert sum(len(image.boxes_scene) for image in images) == 2, "its halves on both tiles"


@pytest.mark.parametrize("link", [True, False])
def test_a_picture_with_a_turn_noted_is_copied_without_it_or_named(pictured, tmp_path, link):
    file = tmp_path / "imagery" / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.asarray(Image.open(file))).save(file, exif=exif)
    (image,) = collect_labels(pictured, LabelExportConfig()).labels.images
    with WorkspacePictures(pictured, link=link) as pictures:
        placed = pictures.place(image, tmp_path / "out" / "a")
    assert (is_turned(placed), pictures.turned) == ((True, ["a.png"]) if link else (False, []))
    assert is_turned(file), "the scene's own file stays as it is"


def test_a_picture_that_is_gone_is_named(pictured, tmp_path):
    (image,) = collect_labels(pictured, LabelExportConfig()).labels.images
    (tmp_path / "imagery" / "a.png").unlink()
    with WorkspacePictures(pictured, link=False) as pictures, pytest.raises(BadInput, match=r"a\.png.* is gone"):
        pictures.place(image, tmp_path / "out" / "a")


def test_collecting_reports_its_progress(workspace):
    said = []
    collect_labels(workspace, LabelExportConfig(), progress=lambda *values: said.append(values))
    assert said[-1] == (2, 2, "labels")
    assert isinstance(collect_labels(workspace, LabelExportConfig(per="tile")).labels.images[0].boxes_scene, Boxes)
