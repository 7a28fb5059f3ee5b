import numpy as np
import pytest
from sqlalchemy import select

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import label_set, scene_boxes, set_label_set, tile_boxes
from engine.catalog.schema import Annotation, Review, Scene, Tile
from engine.catalog.tiles import add_alias, tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, LabelSetMismatch, WorkspaceBusy
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile, UnusableBox
from engine.stages.labels import MOST_NAMED, LabelConfig, import_labels

SHIP, PLANE = 0, 1


def image(name, *boxes, width=128, height=64):
    xyxy = np.asarray([box[:4] for box in boxes], dtype=np.float64)
    return ImageLabels(name, width, height, Boxes(xyxy, np.asarray([box[4] for box in boxes], dtype=np.int64)))


def label_file(*images, names=("ship", "plane"), source="labels.json", **more):
    return LabelFile(LabelSet.of(names), images, source=source, **more)


@pytest.fixture
def workspace(tmp_path, fake):
    """Three scenes of two tiles of 64 px each: a (train), b (dev), c (test)."""
    with Workspace.create(tmp_path / "workspace") as made:
        with made.session() as session:
            for name, split in (("in/a.tif", "train"), ("in/b.tif", "dev"), ("in/c.tif", "test")):
                fake("catalog").add_scene(session, name, width=128, height=64, tile=64, split=split)
        yield made


def state_of(workspace):
    """Everything that an import may write."""
    with workspace.session() as session:
        annotations = session.scalars(select(Annotation).order_by(Annotation.id))
        rows = [
            (row.id, row.scene_id, row.x1, row.y1, row.x2, row.y2, row.label, row.source, row.state, row.version) for row in annotations
        ]
        return rows, session.scalars(select(Review.tile_id).order_by(Review.tile_id)).all(), len(ledger.events(session, "labels"))


def states(workspace):
    return [row[8] for row in state_of(workspace)[0]]


def test_boxes_become_annotations_and_all_tiles_of_named_images_are_reviewed(workspace):
    report = import_labels(workspace, label_file(image("in/a.tif", (5, 5, 20, 20, PLANE)), image("b.tif")), LabelConfig())
    with workspace.session() as session:
        assert scene_boxes(session, 1).xyxy.tolist() == [[5, 5, 20, 20]]
        assert scene_boxes(session, 1).labels.tolist() == [PLANE]
        assert label_set(session).names == ("ship", "plane")
        assert [tile.id for tile in tiles(session, reviewed=True)] == [1, 2, 3, 4], "b.tif is known to be empty, c.tif was not named"
        assert ledger.events(session, "labels")[0].details["source"] == "labels.json"
    assert (report.images, report.added, report.accepted, report.withheld, report.reviewed_tiles) == (2, 1, 1, 0, 4)


def test_tiles_that_are_left_out_are_not_reviewed(workspace):
    with workspace.session() as session:
        session.get_one(Tile, 1).split = "none"
    assert import_labels(workspace, label_file(image("a.tif")), LabelConfig()).reviewed_tiles == 1


def test_withheld_labels_are_shown_on_dev_and_test_ground_alone(workspace):
    labels = label_file(*(image(name, (5, 5, 20, 20, SHIP)) for name in ("a.tif", "b.tif", "c.tif")))
    report = import_labels(workspace, labels, LabelConfig(withhold=True))
    assert states(workspace) == ["withheld", "accepted", "accepted"]
    assert (report.accepted, report.withheld, report.reviewed_tiles) == (2, 1, 4)
    with workspace.session() as session:
        assert [tile.split for tile in tiles(session, reviewed=True)] == ["dev", "dev", "test", "test"]
        assert all(len(boxes) == 0 for boxes in tile_boxes(session, tiles(session, split="train")).values())


@pytest.mark.guarantee("G42")
def test_withheld_boxes_of_a_carved_scene_never_show_on_train_tiles(tmp_path, fake):
    with Workspace.create(tmp_path / "carved") as workspace:
        with workspace.session() as session:
            fake("catalog").add_scene(session, "a", width=512, height=512, tile=64)
        boxes = [(x, y, x + 20, y + 20, SHIP) for x in range(0, 490, 22) for y in range(0, 490, 22)]
        import_labels(workspace, label_file(image("a", *boxes, width=512, height=512)), LabelConfig(withhold=True))
        with workspace.session() as session:
            for tile in tiles(session):
                shown, hidden = (len(tile_boxes(session, [tile], states)[tile.id]) for states in (("accepted",), ("withheld",)))
                assert shown + hidden > 0
                assert hidden == 0 or tile.split == "train"
            assert {tile.split for tile in tiles(session)} == {"train", "dev", "test"}
            assert {tile.split for tile in tiles(session, reviewed=True)} == {"dev", "test"}


@pytest.mark.parametrize("withhold", [False, True])
def test_the_same_file_once_more_changes_nothing(workspace, withhold):
    labels = label_file(image("a.tif", (5, 5, 20, 20, SHIP), (5, 5, 20, 20, SHIP)), image("b.tif", (1, 1, 9, 9, PLANE)))
    import_labels(workspace, labels, LabelConfig(withhold=withhold))
    before = state_of(workspace)
    report = import_labels(workspace, labels, LabelConfig(withhold=withhold))
    assert state_of(workspace) == before
    assert (report.added, report.changed, report.removed, report.unchanged) == (0, 0, 0, 2)


def test_an_edited_file_replaces_what_it_said_of_the_images_it_names(workspace):
    keep, drop, elsewhere = (5, 5, 20, 20, SHIP), (30, 30, 40, 40, SHIP), (1, 1, 9, 9, SHIP)
    import_labels(workspace, label_file(image("a.tif", keep, drop), image("b.tif", elsewhere)), LabelConfig())
    report = import_labels(workspace, label_file(image("a.tif", keep, (*drop[:4], PLANE))), LabelConfig())
    assert (report.added, report.removed, report.unchanged) == (1, 1, 1)
    rows, _, _ = state_of(workspace)
    assert [(row[6], row[8], row[9]) for row in rows] == [
        (SHIP, "accepted", 1),
        (SHIP, "deleted", 2),
        (SHIP, "accepted", 1),
        (PLANE, "accepted", 1),
    ]
    assert import_labels(workspace, label_file(image("a.tif", keep, drop)), LabelConfig()).changed == 1
    assert [row[8] for row in state_of(workspace)[0]] == ["accepted", "accepted", "accepted", "deleted"]


def test_an_object_that_a_person_deleted_or_the_oracle_showed_stays_so(workspace):
    labels = label_file(image("a.tif", (5, 5, 20, 20, SHIP), (30, 30, 40, 40, SHIP), (50, 50, 60, 60, SHIP)))
    import_labels(workspace, labels, LabelConfig(withhold=True))
    with workspace.session() as session:
        session.get_one(Annotation, 1).state = "accepted"
        session.get_one(Annotation, 2).state = "deleted"
    import_labels(workspace, labels, LabelConfig(withhold=True))
    assert states(workspace) == ["accepted", "deleted", "withheld"]


def test_what_was_withheld_is_shown_by_an_import_that_does_not_withhold(workspace):
    labels = label_file(image("a.tif", (5, 5, 20, 20, SHIP)))
    import_labels(workspace, labels, LabelConfig(withhold=True))
    report = import_labels(workspace, labels, LabelConfig())
    assert (report.changed, report.reviewed_tiles, states(workspace)) == (1, 2, ["accepted"])


def test_a_new_box_on_a_tile_that_was_paid_for_is_shown(workspace):
    import_labels(workspace, label_file(image("a.tif", (5, 5, 20, 20, SHIP))), LabelConfig(withhold=True))
    with workspace.session() as session:
        session.add(Review(tile_id=1, by="oracle"))
    import_labels(
        workspace,
        label_file(image("a.tif", (5, 5, 20, 20, SHIP), (30, 5, 40, 20, SHIP), (100, 5, 120, 20, SHIP))),
        LabelConfig(withhold=True),
    )
    assert states(workspace) == ["accepted", "accepted", "withheld"]


def test_a_box_that_two_files_bring_is_there_once(workspace):
    import_labels(workspace, label_file(image("a.tif", (5, 5, 20, 20, SHIP))), LabelConfig())
    more = label_file(image("a.tif", (5, 5, 20, 20, SHIP), (30, 30, 40, 40, SHIP)), source="more.json")
    report = import_labels(workspace, more, LabelConfig())
    assert (report.added, report.unchanged) == (1, 1)


def test_a_box_that_another_file_rounds_a_little_is_there_once(workspace):
    import_labels(workspace, label_file(image("a.tif", (5, 5, 20, 20, SHIP), (5, 5, 20, 20, PLANE), (30, 5, 40, 20, SHIP))), LabelConfig())
    rounded = image("a.tif", (5.02, 5, 19.98, 20, SHIP), (5.02, 5, 20, 20, PLANE), (30.2, 5, 40, 20, SHIP))
    report = import_labels(workspace, label_file(rounded, source="rounded.json"), LabelConfig())
    assert (report.added, report.unchanged) == (1, 2)
    assert [row[2] for row in state_of(workspace)[0]] == [5, 5, 30, 30.2], "the box stays where the first file put it"


def test_a_file_that_moves_a_box_a_little_does_not_remove_it(workspace):
    import_labels(workspace, label_file(image("a.tif", (5, 5, 20, 20, SHIP))), LabelConfig())
    report = import_labels(workspace, label_file(image("a.tif", (5.01, 5, 20, 20, SHIP))), LabelConfig())
    assert (report.added, report.removed, report.unchanged, states(workspace)) == (0, 0, 1, ["accepted"])


def test_another_file_of_the_same_name_removes_nothing(workspace):
    cars, trees = (5, 5, 20, 20, SHIP), (30, 30, 40, 40, SHIP)
    for complete in (True, False):
        config = LabelConfig(complete=complete)
        import_labels(workspace, label_file(image("a.tif", cars), image("b.tif", cars)), config, origin="cars")
        report = import_labels(workspace, label_file(image("a.tif", trees)), config, origin="trees")
        assert (report.removed, report.source) == (0, "labels.json (2)")
    assert states(workspace) == ["accepted"] * 3
    report = import_labels(workspace, label_file(image("a.tif", (50, 5, 60, 9, SHIP))), LabelConfig(), origin="third")
    assert (report.added, report.removed, report.source) == (1, 0, "labels.json (3)")


def test_a_new_version_is_known_by_where_it_lies_or_by_a_box_it_kept(workspace):
    first, second, third = (5, 5, 20, 20, SHIP), (30, 30, 40, 40, SHIP), (50, 5, 60, 9, SHIP)
    import_labels(workspace, label_file(image("a.tif", first)), LabelConfig(), origin="here")
    report = import_labels(workspace, label_file(image("a.tif", second)), LabelConfig(), origin="here")
    assert (report.added, report.removed, report.source) == (1, 1, "labels.json"), "its one box was moved"
    report = import_labels(workspace, label_file(image("a.tif", (*second[:4], PLANE), third)), LabelConfig(), origin="elsewhere")
    assert (report.added, report.removed, report.source) == (2, 1, "labels.json"), "a box has another class"
    report = import_labels(workspace, label_file(image("a.tif")), LabelConfig(), origin="elsewhere")
    assert (report.removed, report.source) == (2, "labels.json"), "all were taken out"


def test_names_with_the_same_64_characters_are_two_sources(workspace):
    for number, end in enumerate(("cars.json", "trees.json")):
        box = (5 + 30 * number, 5, 20 + 30 * number, 20, SHIP)
        report = import_labels(workspace, label_file(image("a.tif", box), source=f"{'x' * 64}{end}"), LabelConfig(), origin="here")
        assert (report.removed, len(report.source)) == (0, 64)
    assert states(workspace) == ["accepted", "accepted"]


def test_a_file_that_is_not_complete_leaves_every_tile_open(workspace):
    boxes = image("a.tif", (5, 5, 20, 20, SHIP)), image("b.tif", (5, 5, 20, 20, SHIP))
    report = import_labels(workspace, label_file(*boxes), LabelConfig(complete=False))
    assert (report.added, report.reviewed_tiles, states(workspace)) == (2, 0, ["accepted", "accepted"])
    with workspace.session() as session:
        assert tiles(session, reviewed=True) == []


def test_a_file_that_is_not_complete_can_be_withheld(workspace):
    boxes = image("a.tif", (5, 5, 20, 20, SHIP)), image("b.tif", (5, 5, 20, 20, SHIP))
    import_labels(workspace, label_file(*boxes), LabelConfig(complete=False, withhold=True))
    assert states(workspace) == ["withheld", "accepted"]


def test_a_reader_that_knows_the_very_scene_needs_no_name_of_its_own(workspace, fake):
    with workspace.session() as session:
        for name in ("x/twin.tif", "y/twin.tif"):
            fake("catalog").add_scene(session, name)
    boxes = Boxes(np.array([[5.0, 5, 20, 20]]), np.array([SHIP]))
    import_labels(workspace, label_file(ImageLabels("twin.tif", 64, 64, boxes, scene_id=5)), LabelConfig())
    assert [row[1] for row in state_of(workspace)[0]] == [5]


def test_a_file_of_which_no_box_can_be_used_is_refused(workspace):
    before = state_of(workspace)
    lost = UnusableBox("a.tif", "[5, 5, 5, 9]", "it has no area")
    for labels in (label_file(image("a.tif"), unusable=(lost,)), label_file(image("a.tif", (200, 5, 210, 9, SHIP), width=0, height=0))):
        with pytest.raises(BadInput, match=r"none of the 1 boxes of labels\.json.*'a\.tif'"):
            import_labels(workspace, labels, LabelConfig())
    assert state_of(workspace) == before


def test_what_is_left_out_is_counted_whole_and_named_in_part(workspace):
    lost = tuple(UnusableBox("a.tif", f"[{number}]", "flat") for number in range(MOST_NAMED + 5))
    elsewhere = tuple(image(f"z{number}.tif") for number in range(MOST_NAMED + 7))
    labels = label_file(image("a.tif", (5, 5, 20, 20, SHIP)), *elsewhere, unusable=lost, difficult=3)
    report = import_labels(workspace, labels, LabelConfig(allow_unknown_images=True))
    assert (report.left_out, len(report.unusable), report.unusable[0]["box"]) == (MOST_NAMED + 5, MOST_NAMED, "[0]")
    assert (report.images_left_out, len(report.unknown_images), report.difficult) == (MOST_NAMED + 7, MOST_NAMED, 3)


def test_a_file_cannot_stand_for_all_of_an_image_whose_labels_another_file_withholds(workspace):
    import_labels(workspace, label_file(image("a.tif", (5, 5, 20, 20, SHIP))), LabelConfig(withhold=True))
    before = state_of(workspace)
    with pytest.raises(BadInput, match=r"labels\.json withheld"):
        import_labels(workspace, label_file(image("a.tif", (50, 5, 60, 20, SHIP)), source="more.json"), LabelConfig())
    assert state_of(workspace) == before


def test_an_image_may_go_by_the_other_name_of_its_pixels(workspace):
    with workspace.session() as session:
        add_alias(session, session.get_one(Scene, 1), 1, "in/copy.tif")
    report = import_labels(
        workspace, label_file(image("copy.tif", (5, 5, 20, 20, SHIP)), image("a.tif", (5, 5, 20, 20, SHIP))), LabelConfig()
    )
    assert (report.images, report.added) == (2, 1)


def test_a_later_file_may_speak_of_some_of_the_classes_in_another_order(workspace):
    import_labels(workspace, label_file(image("a.tif")), LabelConfig())
    import_labels(workspace, label_file(image("b.tif", (1, 1, 9, 9, 0)), names=("plane",), source="more.json"), LabelConfig())
    with workspace.session() as session:
        assert scene_boxes(session, 2).labels.tolist() == [PLANE]
        assert label_set(session).names == ("ship", "plane")


def test_classes_are_renamed_and_joined_and_put_in_order(workspace):
    labels = label_file(image("a.tif", (1, 1, 9, 9, 0), (20, 1, 29, 9, 1)), names=("Alive", "Dead"))
    import_labels(workspace, labels, LabelConfig(class_map={"Alive": "Tree", "Dead": "Tree"}, label_set=("Car", "Tree")))
    with workspace.session() as session:
        assert scene_boxes(session, 1).labels.tolist() == [1, 1]
        assert label_set(session).names == ("Car", "Tree")


A = image("a.tif")
REFUSED = {
    "unknown class": ((image("a.tif", (1, 1, 9, 9, 1)),), {}, LabelSetMismatch, r"labels\.json.*unknown class 'plan'.*'plane'"),
    "unknown image": ((A, image("z.tif")), {}, BadInput, r"labels\.json.*'z\.tif'.*allow_unknown"),
    "no image known": ((image("z.tif"),), {"allow_unknown_images": True}, BadInput, r"z\.tif"),
    "no image": ((), {}, BadInput, "names no image"),
    "other size": ((image("b.tif"), image("a.tif", width=64)), {}, BadInput, "64 x 64.*128 x 64"),
    "map of no class": ((A,), {"class_map": {"shop": "ship"}}, LabelSetMismatch, "'shop'.*'ship'"),
    "other classes": ((A,), {"label_set": ("plane", "ship")}, LabelSetMismatch, "order differs"),
    "two scenes of a name": ((image("twin.tif"),), {}, BadInput, r"twin\.tif.*2 scenes"),
    "two images of a scene": ((A, image("elsewhere/a.tif")), {}, BadInput, r"'a\.tif' and 'elsewhere/a\.tif'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named_and_nothing_is_written(workspace, fake, case):
    images, config, error, named = REFUSED[case]
    with workspace.session() as session:
        set_label_set(session, ["ship", "plane"])
        for name in ("x/twin.tif", "y/twin.tif"):
            fake("catalog").add_scene(session, name)
    before = state_of(workspace)
    labels = label_file(*images, names=("ship", "plan" if case == "unknown class" else "plane"))
    with pytest.raises(error, match=named) as refused:
        import_labels(workspace, labels, LabelConfig(**config))
    assert refused.value.exit_code == 3
    assert state_of(workspace) == before


def test_a_refused_first_file_does_not_fix_the_classes(workspace):
    with pytest.raises(BadInput):
        import_labels(workspace, label_file(image("z.tif")), LabelConfig())
    import_labels(workspace, label_file(image("a.tif"), names=("car",)), LabelConfig())


def test_an_unknown_class_without_a_box_does_no_harm(workspace):
    with workspace.session() as session:
        set_label_set(session, ["ship"])
    assert import_labels(workspace, label_file(image("a.tif", (1, 1, 9, 9, SHIP))), LabelConfig()).added == 1


def test_unknown_images_are_listed_where_they_are_allowed(workspace):
    report = import_labels(workspace, label_file(image("a.tif"), image("z.tif")), LabelConfig(allow_unknown_images=True))
    assert (report.images, report.unknown_images) == (1, ("z.tif",))


def test_boxes_of_an_image_of_unknown_size_are_clipped_to_the_scene(workspace):
    labels = label_file(
        image("a.tif", (100, 5, 200, 20, SHIP), (300, 5, 310, 20, SHIP), width=0, height=0),
        unusable=(UnusableBox("a.tif", "[]", "flat"),),
        crowd=2,
    )
    report = import_labels(workspace, labels, LabelConfig())
    with workspace.session() as session:
        assert scene_boxes(session, 1).xyxy.tolist() == [[100, 5, 128, 20]]
    assert [entry["reason"] for entry in report.unusable] == ["flat", "it lies outside the scene of 128 x 64 pixels"]
    assert report.crowd == 2


def test_a_cancelled_import_writes_nothing(workspace):
    def cancel(done, total, message):
        if done == 1:
            raise Cancelled("stopped")

    before = state_of(workspace)
    with pytest.raises(Cancelled):
        import_labels(workspace, label_file(image("a.tif", (1, 1, 9, 9, SHIP)), image("b.tif")), LabelConfig(), progress=cancel)
    assert state_of(workspace) == before


def test_an_import_waits_for_no_other_stage(workspace):
    with workspace.worker_lock("finetune"), pytest.raises(WorkspaceBusy, match="finetune"):
        import_labels(workspace, label_file(image("a.tif")), LabelConfig())
