"""The overview page as a person sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.catalog.summary import summarize

pytestmark = pytest.mark.browser


@pytest.fixture
def visit(browser: Any, app_address: str) -> Iterator[tuple[Any, list[str], list[str]]]:
    """The opened page, the addresses it asked for, and its errors."""
    page = browser.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(app_address)
    page.wait_for_selector("#tiles img", timeout=60_000)
    yield page, asked, errors
    page.close()


def test_page_shows_counts_tiles_rounds_and_reaches_nobody_else(visit, filled_workspace, app_address):
    page, asked, errors = visit
    summary = summarize(filled_workspace)
    counts = page.locator("#counts").inner_text()
    assert f"train {summary.tiles['train']}" in counts
    assert f"car {summary.annotations['car']}" in counts
    assert "<b>ship</b>" in counts
    page.wait_for_function("[...document.querySelectorAll('#tiles img')].slice(0, 4).every(img => img.complete && img.naturalWidth > 0)")
    assert page.locator("#tiles img").first.evaluate("img => img.naturalWidth") == 32
    assert "0.25" in page.locator("#rounds").inner_text()
    page.locator("#rounds img").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#rounds img').naturalWidth > 0")
    assert "broken.jpg" in page.locator("#set-aside").inner_text()
    assert [address for address in asked if not address.startswith((app_address, "data:", "blob:"))] == []
    assert errors == []


def test_later_tiles_are_another_page(visit):
    page, _, _ = visit
    first = page.locator("#tiles img").first.get_attribute("src")
    page.get_by_role("button", name="Later tiles").click()
    page.wait_for_function("shown => document.querySelector('#tiles img').getAttribute('src') !== shown", arg=first)
    page.get_by_role("button", name="Earlier tiles").click()
    page.wait_for_function("shown => document.querySelector('#tiles img').getAttribute('src') === shown", arg=first)


def test_hostile_names_stay_text(visit):
    page, _, errors = visit
    assert 'onerror="document.title=1"' in page.locator("#tiles").inner_text()
    assert page.locator("img[src='x']").count() == 0
    assert page.title() == "Tilehawk"
    assert errors == []
