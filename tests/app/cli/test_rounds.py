"""The commands of a round: budgets in seconds, minutes or money, and what rounds did cost."""

from __future__ import annotations

import pytest

from engine.catalog.workspace import Workspace


@pytest.fixture
def folder(tmp_path, fake):
    """Sixteen train tiles whose labels are withheld."""
    path = tmp_path / "workspace"
    with Workspace.create(path) as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
    return path


def test_a_round_is_ranked_for_money_annotated_and_held_against_its_costs(tilehawk, folder):
    ranked = tilehawk("rank", "--budget-money", 5, "--workspace", folder, "--json")
    assert ranked.code == 0, ranked.err
    assert ranked.document["budget_seconds"] == 600
    assert ranked.document["cost"]["money_p50"] < 5
    nothing = tilehawk("costs", "--workspace", folder, "--json")
    assert (nothing.code, nothing.document["error"]) == (4, "NothingToDo")
    assert tilehawk("oracle", "--workspace", folder, "--json").code == 0
    held = tilehawk("costs", "--workspace", folder, "--hourly-rate", 60, "--json")
    assert held.code == 0, held.err
    [one] = held.document["rounds"]
    assert one["money_measured"] == pytest.approx(one["seconds_measured"] / 60)
    assert (folder / held.document["picture"]).is_file()


def test_people_read_tables_of_prices_and_rounds(tilehawk, folder):
    tilehawk("rank", "--budget-seconds", 600, "--workspace", folder)
    tilehawk("oracle", "--workspace", folder)
    said = tilehawk("costs", "--workspace", folder, "--set", "picture=false")
    assert said.code == 0
    assert "seconds p50" in said.out
    assert "act " in said.out


@pytest.mark.parametrize("command", ["rank", "round"])
@pytest.mark.parametrize("budgets", [("--budget-minutes", 1, "--budget-money", 1), ("--budget-seconds", 60, "--budget-minutes", 1)])
def test_one_budget_at_a_time(tilehawk, folder, command, budgets):
    refused = tilehawk(command, *budgets, "--workspace", folder, "--json")
    assert refused.code == 2
    assert "one of them" in refused.out


def test_money_and_seconds_by_their_keys_are_refused_too(tilehawk, folder):
    refused = tilehawk("rank", "--budget-money", 1, "--set", "budget_seconds=60", "--workspace", folder, "--json")
    assert (refused.code, refused.document["error"]) == (2, "UsageError")
