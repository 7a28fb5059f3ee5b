import pytest

from engine.catalog.models import add_model, asked_model, get_model, model_directory, models
from engine.errors import BadInput


def add(session, name, stage="finetune", **more):
    return add_model(session, name=name, stage=stage, config={"epochs": 1}, data_hash="0", **more)


def test_the_newest_model_is_found_without_a_name(workspace):
    with workspace.session() as session:
        parent = add(session, "pre-1", "pretrain")
        add(session, "fine-1", parent_id=parent.id, label_set_fingerprint="ab", metrics={"ap": 0.5})
        assert get_model(session).name == "fine-1"
        assert get_model(session, stage="pretrain").name == "pre-1"
        assert get_model(session, "pre-1").id == parent.id
        found = get_model(session, "fine-1")
        assert (found.parent_id, found.label_set_fingerprint, found.metrics, found.config) == (parent.id, "ab", {"ap": 0.5}, {"epochs": 1})
        assert [row.name for row in models(session)] == ["pre-1", "fine-1"]


def test_look_alikes_are_asked_of_what_was_taught_to_be_asked_whatever_was_pre_trained_since(workspace):
    with workspace.session() as session:
        for name, stage in (
            ("fine", "finetune"),
            ("pre", "pretrain"),
            ("asked", "one-shot"),
            ("pre-2", "pretrain"),
            ("fine-2", "finetune"),
        ):
            add(session, name, stage)
            expected = {"pre-2": "asked", "fine-2": "asked"}.get(name, name)
            assert asked_model(session).name == expected
        assert asked_model(session, "pre").name == "pre"


def test_a_pre_trained_model_that_was_taught_to_be_asked_is_asked(workspace):
    with workspace.session() as session:
        for name, stage, one_shot, expected in (
            ("pre", "pretrain", False, "pre"),
            ("look-alikes", "pretrain", True, "look-alikes"),
            ("regions", "pretrain", False, "look-alikes"),
            ("asked", "one-shot", True, "asked"),
            ("look-alikes-2", "pretrain", True, "look-alikes-2"),
        ):
            add_model(session, name=name, stage=stage, config={"detector": {"one_shot": one_shot}}, data_hash="0")
            assert asked_model(session).name == expected


def test_registering_a_model_again_updates_it(workspace):
    with workspace.session() as session:
        first = add(session, "m", metrics={"ap": 0.1})
        assert add(session, "m", metrics={"ap": 0.2}).id == first.id
        assert get_model(session, "m").metrics == {"ap": 0.2}


def test_a_missing_model_is_named_with_the_nearest_or_the_command_that_makes_one(workspace):
    with workspace.session() as session:
        with pytest.raises(BadInput, match="tilehawk pretrain"):
            get_model(session, stage="pretrain")
        add(session, "round-1")
        with pytest.raises(BadInput, match="Did you mean 'round-1'"):
            get_model(session, "round1")
        with pytest.raises(BadInput, match="tilehawk models"):
            get_model(session, "xyz")


@pytest.mark.parametrize("name", ["../outside", "/etc", "", ".hidden", "a/b", "a b", "a" * 129, "a\n"])
def test_a_model_name_is_never_a_path(workspace, name):
    with pytest.raises(BadInput, match="model name"):
        model_directory(workspace, name)


def test_a_model_lives_below_models(workspace):
    assert model_directory(workspace, "round-1.b_2") == (workspace.models / "round-1.b_2").resolve()
