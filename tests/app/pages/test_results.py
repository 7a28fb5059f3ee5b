"""What the results page does, without a browser."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from app.pages import results
from app.pages.context import PageContext
from app.settings import Settings
from engine.catalog.evaluations import evaluation_file, evaluation_pictures
from engine.catalog.models import add_model, get_model
from engine.catalog.workspace import Workspace
from engine.errors import UsageError
from engine.evaluation.one_shot import OneShotMetrics
from engine.evaluation.one_shot_plot import CLASSES_PICTURE, write_classes
from engine.evaluation.plots import DIAGRAMS
from engine.stages.evaluate import EvaluateConfig, evaluate


@pytest.fixture
def context(tmp_path, fake):
    """Two models that are measured on test ground, the second finds less; no rasters."""
    labelled = fake("labelled")
    with Workspace.create(tmp_path / "workspace") as workspace:
        labelled.fill(workspace, fake("catalog").add_scene)
        labelled.predict(workspace, "good-test", split="test", model="good")
        labelled.predict(workspace, "weak-test", split="test", model="<b>weak</b>", keep=0.5)
        yield PageContext(workspace, fake("jobs").FakeJobs(), Settings())


@pytest.fixture
def measured(context):
    for model in ("good", "<b>weak</b>"):
        evaluate(context.workspace, EvaluateConfig(model=model, pictures=False))
    return context


def test_nothing_is_there_before_the_first_model(tmp_path, fake):
    with Workspace.create(tmp_path / "empty") as workspace:
        actions = results.Actions(PageContext(workspace, fake("jobs").FakeJobs(), Settings()))
        model, other, averages, *rest = actions.refresh(None, None, "test")
        assert (model["choices"], model["value"], other["value"]) == ([], None, results.NOBODY)
        assert "No model that finds objects" in averages
        assert rest == ["", "", ""]
        with pytest.raises(UsageError, match="no model"):
            actions.measure(None, "test")


def test_the_newest_model_comes_first_and_a_choice_stays(measured):
    actions = results.Actions(measured)
    model, _, averages, *_ = actions.refresh(None, None, "test")
    assert (model["choices"], model["value"]) == (["<b>weak</b>", "good"], "<b>weak</b>")
    assert "<b>weak" not in averages
    model, other, averages, *_ = actions.refresh("good", "<b>weak</b>", "test")
    assert (model["value"], other["value"]) == ("good", "<b>weak</b>")
    assert "difference" in averages


def test_two_models_stand_side_by_side_with_their_difference(measured):
    averages, classes, _, worst = results.Actions(measured).show("good", "<b>weak</b>", "test")
    with measured.workspace.session(write=False) as session:
        good, weak = (get_model(session, name).metrics["test"]["ap50"] for name in ("good", "<b>weak</b>"))
    assert f"<td>AP50</td><td>{good:.4g}</td><td>{weak:.4g}</td><td>{good - weak:+.3f}</td>" in averages
    assert "<td>AP, large (from 96² px)</td><td>–</td><td>–</td><td>–</td>" in averages
    assert classes.count("<table>") == 2
    assert "No box is missed" in worst, "of the good one"
    assert "/tiles/" in worst, "of the other, plain where nothing was drawn"
    assert "&lt;b&gt;weak" in worst


def test_beside_itself_a_model_stands_alone(measured):
    assert "difference" not in results.Actions(measured).show("good", "good", "test")[0]


def test_ground_that_was_not_measured_is_said_and_can_be_measured(measured):
    actions = results.Actions(measured)
    assert "Not measured on dev ground yet: good" in actions.show("good", None, "dev")[0]
    assert "good" in actions.measure("good", "dev")
    assert [(job.verb, job.config) for job in measured.jobs.queued] == [
        ("predict", {"model": "good", "split": "dev"}),
        ("evaluate", {"model": "good", "split": "dev"}),
    ]


def test_a_model_measured_before_there_were_reports_shows_its_averages(context):
    with context.workspace.session() as session:
        add_model(session, name="old", stage="finetune", config={}, data_hash="0" * 64, metrics={"test": {"ap": 0.125, "ap50": 0.25}})
    averages, classes, diagrams, worst = results.Actions(context).show("old", None, "test")
    assert "<td>0.125</td>" in averages
    assert ("<table>" in classes, "<img" in diagrams, worst) == (False, False, "")


@pytest.fixture
def asked(measured):
    """Beside the two, a model that is asked by a box, measured on test ground; of "car" it has learned no label."""
    metrics = OneShotMetrics(0.75, 0.25, {"house": 0.75, "car": 0.25}, {"house": [0.7, 0.8], "car": [0.25]}, ("car",), 4, 15)
    kept_as = "one-shot-asked"
    file, folder = (of(measured.workspace, kept_as, "test") for of in (evaluation_file, evaluation_pictures))
    file.write_text(json.dumps({"metrics": asdict(metrics)}))
    folder.mkdir()
    write_classes(metrics, folder / f"{CLASSES_PICTURE}.png")
    means = {"seen": 0.75, "unseen": 0.25, "questions": 15, "tiles": 4, "predictions": kept_as}
    with measured.workspace.session() as session:
        add_model(session, name="asked", stage="one-shot", config={}, data_hash="0" * 64, metrics={"test": means})
    return results.Actions(measured)


def test_a_model_that_is_asked_by_a_box_shows_what_it_finds_of_learned_and_other_classes(asked):
    averages, classes, diagrams, worst = asked.show("asked", None, "test")
    assert "<td>AP50 of classes it never learned</td><td>0.25</td>" in averages
    assert "best F1" not in averages
    assert "<td>house</td><td>yes</td><td>0.75</td><td>0.700 to 0.800</td>" in classes
    assert "<td>car</td><td>no</td><td>0.25</td>" in classes
    assert f"/{CLASSES_PICTURE}.png?drawn=" in diagrams
    assert worst == ""


def test_beside_a_detector_each_has_its_own_measures(asked):
    averages, classes, *_ = asked.show("asked", "good", "test")
    for title in ("AP50 of learned classes, asked by a crop", "best F1"):
        assert f"<td>{title}</td>" in averages
    assert classes.count("<table>") == 2


def test_a_model_that_is_asked_is_measured_without_predictions(asked, measured):
    assert "asked" in asked.refresh(None, None, "test")[0]["choices"]
    asked.measure("asked", "dev")
    assert [(job.verb, job.config) for job in measured.jobs.queued] == [("evaluate", {"model": "asked", "split": "dev"})]


def test_pictures_are_named_by_the_model_s_id_and_anew_when_drawn_anew(context):
    evaluate(context.workspace, EvaluateConfig(model="<b>weak</b>"))
    _, _, diagrams, worst = results.Actions(context).show("<b>weak</b>", None, "test")
    assert set(results.DIAGRAMS) == {*DIAGRAMS, CLASSES_PICTURE}
    with context.workspace.session(write=False) as session:
        row = get_model(session, "<b>weak</b>")
    assert [f"/evaluations/{row.id}/test/{name}.png?drawn=" in diagrams for name in DIAGRAMS] == [True] * len(DIAGRAMS)
    assert "cannot be read" in worst, "the fixture has no rasters"
    assert "<img" not in worst


def test_a_damaged_report_says_what_to_do(measured):
    file = measured.workspace.reports / "evaluation-good-test-test.json"
    file.write_text("{")
    averages, *rest = results.Actions(measured).show("good", None, "test")
    assert "evaluate --split test" in averages
    assert rest == ["", "", ""]
