"""The command ``forecast``."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from engine.catalog.annotations import mark_reviewed
from engine.catalog.models import add_model
from engine.catalog.schema import Annotation
from engine.catalog.workspace import Workspace

QUICK = ("--set", "draws=200", "--set", "picture=false")


@pytest.fixture
def workspace(tmp_path, fake):
    """Three measured models after 4, 8 and 12 of 16 tiles, 30 s each; returns the folder."""
    folder = tmp_path / "workspace"
    with Workspace.create(folder) as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        truth = fake("labelled").truth(made, "train")
        with made.session() as session:
            session.execute(update(Annotation).values(state="accepted"))
            for number, ap50 in enumerate([0.2, 0.3, 0.35], start=1):
                ids = sorted(truth)[: 4 * number]
                mark_reviewed(session, ids, by="somebody", seconds=30.0)
                learned = {"tiles": 4 * number, "boxes": sum(len(truth[each]) for each in ids)}
                metrics = {"training": learned, "test": {"ap50": ap50, "tiles": 4, "boxes": 30}}
                add_model(session, name=f"round-{number}", stage="finetune", config={}, data_hash="0" * 64, metrics=metrics)
    return folder


def test_one_document_says_what_the_budget_buys(tilehawk, workspace):
    typed = tilehawk("forecast", "--budget-money", 1, "--workspace", workspace, "--json", *QUICK)
    assert typed.code == 0, typed.err
    said = typed.document
    assert said["budget"]["money"] == pytest.approx(1)
    assert said["budget"]["seconds"] == pytest.approx(3600 / said["rates"]["hourly_rate"])
    assert said["budget"]["low"] < said["budget"]["ap50"] < said["budget"]["high"]
    in_seconds = tilehawk("forecast", "--budget-seconds", said["budget"]["seconds"], "--workspace", workspace, "--json", *QUICK)
    assert in_seconds.document["budget"]["ap50"] == said["budget"]["ap50"]


def test_people_read_a_sentence_and_the_advice(tilehawk, workspace):
    typed = tilehawk("forecast", "--workspace", workspace, *QUICK)
    assert typed.code == 0
    assert " buys 4 tiles, " in typed.out
    assert "Stop: " in typed.out or "Go on: " in typed.out


def test_the_picture_lies_in_the_reports(tilehawk, workspace):
    typed = tilehawk("forecast", "--workspace", workspace, "--json", "--set", "draws=200")
    assert (workspace / typed.document["picture"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "found"),
    [
        (["--budget-money", "0"], 3, "budget_money = 0"),
        (["--budget-seconds=-5"], 3, "budget_seconds = -5"),
        (["--budget-seconds", "5", "--budget-money", "5"], 2, "budget_seconds and budget_money"),
        (["--split", "train"], 2, "split = 'train'"),
        (["--split", "dev"], 4, "none is"),
        (["--set", "hourly_rate=0"], 2, "hourly_rate = 0"),
        (["--budget-money", "nan"], 2, "budget_money = nan"),
    ],
)
def test_what_cannot_be_answered_is_refused(arguments, code, found, tilehawk, workspace):
    typed = tilehawk("forecast", *arguments, "--workspace", workspace, "--json")
    assert typed.code == code, typed.out
    assert found in typed.document["found"]
    assert typed.document["expected"] or typed.document["remedy"]
