"""What training runs left for people."""

import os

import pytest

from engine.catalog.training_logs import logged_runs
from engine.catalog.workspace import Workspace

LOG = "step,images_seen,loss,dev_ap,loss.classes,note\n1,4,2.5,,1.5,\n2,8,2.0,0.25,1.25,\n3,12,1.5,,,resumed\n4,1"


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        for age, name in enumerate(("pretrain-new", "finetune-old")):
            folder = made.reports / "training" / name
            (folder / "pictures").mkdir(parents=True)
            (folder / "log.csv").write_text(LOG)
            os.utime(folder / "log.csv", (1e9 - age, 1e9 - age))
        (made.reports / "training" / "no-log").mkdir()
        yield made


def test_runs_are_those_with_a_log_the_last_one_first(workspace):
    assert [run.name for run in logged_runs(workspace)] == ["pretrain-new", "finetune-old"]


def test_curves_have_the_steps_that_know_the_number_and_no_line_that_was_cut_off(workspace):
    curves = logged_runs(workspace)[0].curves()
    assert list(curves) == ["loss", "dev_ap", "loss.classes"]
    assert (curves["loss"].images_seen, curves["loss"].values) == ([4, 8, 12], [2.5, 2.0, 1.5])
    assert (curves["dev_ap"].images_seen, curves["dev_ap"].values) == ([8], [0.25])
    assert curves["loss.classes"].images_seen == [4, 8]


def test_pictures_come_by_kind_in_the_order_of_the_run(workspace):
    run = logged_runs(workspace)[0]
    for name in ("patches-00000600", "encoder-00001200", "encoder-00000600"):
        (run.folder / "pictures" / f"{name}.png").write_bytes(b"png")
    assert list(run.pictures) == ["encoder-00000600", "encoder-00001200", "patches-00000600"]


def test_a_new_workspace_has_no_runs(tmp_path):
    with Workspace.create(tmp_path / "empty") as workspace:
        assert logged_runs(workspace) == []
