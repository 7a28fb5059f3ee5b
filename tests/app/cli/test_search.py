"""The command ``search``."""

import pytest


@pytest.fixture
def workspace(tilehawk, tmp_path):
    assert tilehawk("init", tmp_path / "workspace").code == 0
    return tmp_path / "workspace"


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "", "1;2;3;4", "5,5,5,9"])
def test_a_box_is_four_numbers_with_an_area(tilehawk, workspace, box):
    typed = tilehawk("search", "--tile", 1, "--box", box, "--workspace", workspace)
    assert typed.code == 2


@pytest.mark.parametrize("given", [("--tile", 1), ("--box", "1,2,30,40")])
def test_tile_and_box_are_needed(tilehawk, workspace, given):
    assert tilehawk("search", *given, "--workspace", workspace).code == 2


def test_a_workspace_without_a_model_says_how_to_make_one(tilehawk, workspace):
    typed = tilehawk("search", "--tile", 1, "--box", "1,2,30,40", "--workspace", workspace, "--json")
    assert typed.code == 3
    assert "tilehawk" in typed.document["remedy"]


@pytest.mark.parametrize("query", ["1", "1:2,3,4", "x:1,2,3,4", "1:a,2,3,4", "1:2,3,0,5"])
def test_a_query_is_a_tile_and_a_box_with_an_area(tilehawk, workspace, query):
    typed = tilehawk("search", "--query", query, "--workspace", workspace)
    assert typed.code == 2


def test_a_query_stands_alone(tilehawk, workspace):
    assert tilehawk("search", "--query", "1:2,3,9,9", "--tile", 1, "--workspace", workspace).code == 2


def test_a_query_reaches_the_search(tilehawk, workspace):
    typed = tilehawk("search", "--query", "1:2,3,30,40", "--workspace", workspace, "--json")
    assert typed.code == 3
    assert "model" in typed.document["found"]


def test_near_misses_of_an_unknown_search_are_bad_input(tilehawk, workspace):
    typed = tilehawk("search", "send", 3, "--around", 0.5, "--tiles", 20, "--workspace", workspace, "--json")
    assert (typed.code, typed.document["found"]) == (3, "no search 3")


@pytest.mark.parametrize("wrong", [("send",), ("send", 1, "--tiles", 0), ("sent", 1)])
def test_sending_needs_a_number_and_a_tile_at_least(tilehawk, workspace, wrong):
    assert tilehawk("search", *wrong, "--workspace", workspace).code == 2
