"""The simulations of a workspace: those that came to their end."""

from __future__ import annotations

import os
from pathlib import Path

from engine.catalog.simulations import stored_simulations
from engine.catalog.workspace import Workspace


def test_the_one_drawn_last_comes_first_and_one_without_curves_is_not_there(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "workspace") as workspace:
        assert stored_simulations(workspace) == []
        for place, name in enumerate(("old", "new", "begun")):
            folder = workspace.reports / "simulations" / name
            folder.mkdir(parents=True)
            if name != "begun":
                (folder / "curves.png").write_bytes(b"png")
                os.utime(folder / "curves.png", (place, place))
        found = stored_simulations(workspace)
    assert [each.name for each in found] == ["new", "old"]
    assert found[0].picture == found[0].folder / "curves.png"
    assert found[0].caution is None
    (found[0].folder / "comparison.json").write_text('{"caution": "most tiles were chosen"}')
    assert found[0].caution == "most tiles were chosen"
