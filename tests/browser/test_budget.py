"""The budget page as a person uses it: move the slider, read what it buys, see tiles, maps and curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.catalog.workspace import Workspace

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
ALL_LOADED = (
    "selector => { const all = [...document.querySelectorAll(selector)]; return all.length && all.every(each => each.naturalWidth); }"
)


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory,
    serve: Callable[..., Any],
    write_picture: Callable[..., Path],
    fake: Callable[[str], ModuleType],
) -> Iterator[str]:
    """The app on a workspace with two measured rounds and one that waits; nobody runs its jobs."""
    folder = tmp_path_factory.mktemp("budget")
    with Workspace.create(folder / "workspace") as workspace:
        fake("budgeted").two_rounds(workspace, folder / "imagery", write_picture)
        with serve(workspace, "--no-worker") as found:
            yield found


@pytest.fixture(params=[1280, 1920])
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    tab = browser.new_page(base_url=address, viewport={"width": request.param, "height": 900})
    tab.set_default_timeout(60_000)
    yield tab
    tab.close()


def test_the_slider_says_what_it_buys(page: Any, tmp_path: Path) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("/budget")
    page.wait_for_function("document.querySelector('#outlook')?.innerText.includes('AP50 today')")
    page.wait_for_function(ALL_LOADED, arg="#forecast-curve img")
    slider = page.locator("#amount input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_function("Number(document.querySelector('#outlook .figures strong').innerText) < 5")
    page.keyboard.press("End")
    page.wait_for_function("Number(document.querySelector('#outlook .figures strong').innerText) > 10")
    page.locator("#unit input[value=money]").check()
    page.wait_for_function("document.querySelector('#amount')?.innerText.includes('€')")
    for pictures in ("#maps img", "#round-tiles img", "#costs img"):
        page.locator(pictures).first.scroll_into_view_if_needed()
        page.wait_for_function(ALL_LOADED, arg=f"{pictures}:first-of-type")
    assert page.locator("#rounds tbody tr").count() == 3
    assert "<b>ship</b>" in page.locator("#round-tiles").inner_text()
    assert page.locator("b", has_text="ship").count() == 0
    page.locator("#choose").click()
    page.wait_for_function("document.querySelector('#news')?.innerText.includes('queued')")
    page.wait_for_function("document.querySelector('#jobs')?.innerText.includes('round')")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off at the side"
    page.screenshot(path=tmp_path / "budget.png", full_page=True)
    assert errors == []
