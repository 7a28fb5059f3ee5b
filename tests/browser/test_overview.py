"""Overview and imagery as a person sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.pages.imagery import TILES_A_PAGE
from engine.catalog.summary import summarize
from engine.catalog.tiles import tiles

pytestmark = pytest.mark.browser


@pytest.fixture
def visit(browser: Any, app_address: str) -> Iterator[tuple[Any, list[str], list[str]]]:
    """A tab, the addresses it asked for, and its errors."""
    page = browser.new_page(base_url=app_address)
    page.set_default_timeout(60_000)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page, asked, errors
    page.close()


def test_the_overview_shows_counts_and_rounds_and_reaches_nobody_else(visit, filled_workspace, app_address):
    page, asked, errors = visit
    summary = summarize(filled_workspace)
    page.goto("/")
    page.wait_for_function("document.querySelector('#counts')?.innerText.includes('train')")
    counts = page.locator("#counts").inner_text()
    assert f"train {summary.tiles['train']}" in counts
    assert f"car {summary.annotations['car']}" in counts
    assert "<b>ship</b>" in counts
    assert "0.25" in page.locator("#rounds").inner_text()
    page.locator("#rounds img").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#rounds img').naturalWidth > 0")
    assert [address for address in asked if not address.startswith((app_address, "data:", "blob:"))] == []
    assert errors == []


def test_the_imagery_page_shows_tiles_and_what_was_set_aside_and_hostile_names_stay_text(visit, filled_workspace):
    page, _, errors = visit
    with filled_workspace.session(write=False) as session:
        total = len(tiles(session))
    page.goto("/imagery")
    page.wait_for_function("total => document.querySelectorAll('#tiles img').length === total", arg=min(total, TILES_A_PAGE))
    page.wait_for_function("[...document.querySelectorAll('#tiles img')].slice(0, 4).every(img => img.complete && img.naturalWidth > 0)")
    assert page.locator("#tiles img").first.evaluate("img => img.naturalWidth") == 32, "a small tile is not enlarged on the way"
    assert "broken.jpg" in page.locator("#set-aside").inner_text()
    assert 'onerror="document.title=1"' in page.locator("#tiles").inner_text()
    assert page.locator("img[src='x']").count() == 0
    assert page.title() == "Tilehawk"
    assert errors == []
