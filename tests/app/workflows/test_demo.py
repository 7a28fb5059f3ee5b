"""The demo's rounds: started again, each finds out by itself what was done."""

from dataclasses import asdict

import pytest
from sqlalchemy import update

from app.workflows.demo import DemoConfig, _Demo
from engine.catalog.schema import Annotation
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.progress import silent


@pytest.fixture
def squares(fake):
    return fake("squares")


@pytest.fixture
def workspace(squares, fake, tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene)
        yield made


def test_a_round_that_a_later_one_has_overtaken_keeps_its_model_though_more_is_labelled(squares, workspace, tmp_path):
    demo = _Demo(tmp_path, DemoConfig(), lambda line: None, silent)
    demo.detector, demo.finetune_schedule = squares.TINY, squares.schedule(images_seen=4)
    first = demo.trained(workspace, 1, "scratch", overtaken=False)
    with workspace.session() as session:
        session.execute(update(Annotation).where(Annotation.scene_id == 1).values(x2=Annotation.x2 + 1))
    again = demo.trained(workspace, 1, "scratch", overtaken=True)
    assert again.already_there
    assert asdict(again) | {"already_there": False} == asdict(first)
    with pytest.raises(BadInput, match="belongs to another model"):
        demo.trained(workspace, 1, "scratch", overtaken=False)
