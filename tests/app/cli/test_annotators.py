"""The commands push and pull against a server, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from app.cli.main import run
from app.connections import connect_label_studio
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import Annotation
from engine.catalog.workspace import Workspace


@pytest.fixture
def studio(fake) -> Iterator[Any]:
    with fake("label_studio_server").serving() as serving:
        yield serving


@pytest.fixture
def place(tmp_path: Path, fake, studio) -> Path:
    """A workspace with a round of three tiles, connected."""
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        with made.session() as session:
            session.execute(delete(Annotation).where(Annotation.state == "withheld"))
            chosen = [ChosenTile(tile.id, 1, 30, {}) for tile in fake("labelled").records(made, "train")[:3]]
            add_round(session, budget_seconds=600, strategy="random", seed=0, chosen=chosen)
        connect_label_studio(made, studio.url, fake("label_studio_server").TOKEN)
    return tmp_path / "workspace"


def typed(capsys: pytest.CaptureFixture[str], place: Path, *words: str) -> dict[str, Any]:
    assert run([*words, "--workspace", str(place), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_dry_run_a_push_for_two_annotators_and_pulls_of_a_policy(place, studio, fake, capsys):
    plan = typed(capsys, place, "push", "--dry-run", "--annotators", "2")
    assert (plan["project"], plan["add"], plan["problems"]) == (None, 3, [])
    assert studio.tasks == {}
    assert typed(capsys, place, "push", "--annotators", "2")["pushed"] == 3
    assert typed(capsys, place, "push", "--dry-run")["unchanged"] == 3
    people = fake("annotators").Annotators(studio.url, fake("label_studio_server").TOKEN)
    people.submit(1, [fake("annotators").rectangle(10, 10, 40, 40)], completed_by=1)
    people.submit(1, [], completed_by=2)
    people.close()
    report = typed(capsys, place, "pull", "--several", "all")
    assert (report["tiles"], report["several"], report["agreement"], report["added"]) == (1, 1, 0.0, 1)
    assert typed(capsys, place, "pull", "--full")["known"] == 1


def test_a_policy_that_is_none_is_refused(place, capsys):
    assert run(["pull", "--several", "loudest", "--workspace", str(place)]) == 2
    assert "several" in capsys.readouterr().err
