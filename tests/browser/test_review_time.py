"""How long somebody works on the page Review, in a real Chromium: pauses are cut, and the browser's count reaches the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.pages.working import counted
from engine.catalog.annotations import set_label_set
from engine.catalog.tiles import tiles
from engine.catalog.visits import measured_visits
from engine.catalog.workspace import Workspace
from engine.stages.ingest import IngestConfig, ingest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(60_000)
    yield tab
    tab.close()


def test_pauses_count_up_to_the_limit_and_work_in_full(page: Any) -> None:
    page.clock.install()
    page.goto("data:text/html,<p>a page</p>")

    def count() -> float:
        return page.evaluate(f"({counted(30)})('a tile', null)")[1]

    began = count()
    for _ in range(10):
        page.clock.fast_forward(20_000)
        page.keyboard.press("c")
    worked = count()
    assert worked - began == pytest.approx(200, abs=5)
    page.clock.fast_forward(600_000)
    page.mouse.move(5, 5)
    assert count() - worked == pytest.approx(30, abs=5)
    assert page.evaluate(f"({counted(30)})('a tile', 'boxes', null)")[:2] == ["a tile", "boxes"]


def test_the_count_of_the_browser_is_what_a_visit_took(
    page: Any, serve: Callable[..., Any], write_picture: Callable[..., Path], tmp_path: Path
) -> None:
    write_picture(tmp_path / "imagery" / "a.png", width=160, height=160)
    with Workspace.create(tmp_path / "workspace") as workspace:
        ingest(workspace, tmp_path / "imagery", IngestConfig(tile=32, overlap=0))
        with workspace.session() as session:
            set_label_set(session, ["car"])
            tile = tiles(session, split="train")[0].id
        page.add_init_script("let asked = 0; window.tilehawkWorked = () => (asked += 0.06)")
        with serve(workspace, "--no-worker") as address:
            page.goto(f"{address}/review?tile={tile}")
            page.wait_for_function("id => document.querySelector('#tile-number input')?.value === String(id)", arg=tile)
            page.locator("#save").click()
            page.wait_for_function("document.querySelector('#news')?.innerText.includes('saved:')")
            page.locator("#complete").click()
            page.wait_for_function("document.querySelector('#news')?.innerText.includes('as complete')")
        with workspace.session(write=False) as session:
            [visit] = measured_visits(session)
    assert (visit.tile, visit.by, visit.seconds) == (tile, "local", pytest.approx(0.2))
