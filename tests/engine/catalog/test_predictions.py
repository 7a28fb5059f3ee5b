import pytest

from engine.catalog.models import add_model
from engine.catalog.predictions import add_prediction_set, get_prediction_set, prediction_sets, predictions_directory
from engine.errors import BadInput


def test_sets_are_listed_by_model_and_registered_once_a_name(workspace):
    with workspace.session() as session:
        first, second = (add_model(session, name=name, stage="finetune", config={}, data_hash="0" * 64) for name in ("first", "second"))
        for name, model, tiles in (("a", first, 3), ("b", second, 4), ("c", first, 5), ("a", first, 6)):
            add_prediction_set(session, name=name, model=model, tiles=tiles)
        assert [(row.name, row.tiles) for row in prediction_sets(session)] == [("b", 4), ("c", 5), ("a", 6)]
        assert [row.name for row in prediction_sets(session, model_id=first.id)] == ["c", "a"]
        assert get_prediction_set(session, "b").model_id == second.id


def test_an_unknown_name_is_refused_with_the_nearest(workspace):
    with workspace.session() as session:
        with pytest.raises(BadInput, match="tilehawk predict"):
            get_prediction_set(session, "round-1")
        model = add_model(session, name="first", stage="finetune", config={}, data_hash="0" * 64)
        add_prediction_set(session, name="round-1", model=model, tiles=1)
        with pytest.raises(BadInput, match="Did you mean 'round-1'"):
            get_prediction_set(session, "round1")


@pytest.mark.guarantee("G12")
@pytest.mark.parametrize("name", ["../models", "/etc", "a/b", "", ".hidden", "a\\b", "x" * 129])
def test_a_name_never_leads_out_of_the_folder(workspace, name):
    with pytest.raises(BadInput, match="the name"):
        predictions_directory(workspace, name)


def test_a_good_name_lies_in_the_folder(workspace):
    assert predictions_directory(workspace, "round-1.test").parent == workspace.predictions.resolve()
