"""How quick the service is: the app up, a page of 100 tiles, a job after the click. Run it on a quiet machine.

    python tests/bench/service.py docs/benchmarks/service/app.json
    python tests/bench/service.py docs/benchmarks/service/app_up.json --only-start

A workspace of generated scenes is made in a temporary folder; every figure is measured in Chromium or over loopback, repeated, and
written with its median, its extremes and all single values.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

SCENES = 14
REPEATS = 5
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]
PACKAGES = ("gradio", "fastapi", "uvicorn", "dbos", "torch", "rasterio", "playwright")


def landscapes() -> Any:
    path = Path(__file__).parents[1] / "fakes" / "landscape.py"
    spec = importlib.util.spec_from_file_location("landscape", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["landscape"] = module
    spec.loader.exec_module(module)
    return module


def fill(folder: Path) -> Path:
    """A workspace with more than 100 tiles that have a split."""
    imagery = folder / "imagery"
    imagery.mkdir()
    for seed in range(SCENES):
        Image.fromarray(landscapes().landscape(seed).pixels).save(imagery / f"{seed}.png")
    workspace = folder / "workspace"
    for command in (["init", str(workspace)], ["ingest", str(imagery), "--workspace", str(workspace)]):
        subprocess.run([sys.executable, "-m", "app.cli.main", *command], check=True, capture_output=True)
    return workspace


@contextlib.contextmanager
def serving(workspace: Path) -> Iterator[tuple[str, float]]:
    """The app's address, and the seconds from its start until it answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    begun = time.monotonic()
    command = [sys.executable, "-m", "app.cli.main", "app", "--port", str(port), "--workspace", str(workspace)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/", timeout=5):
                    break
                time.sleep(0.02)
            yield address, time.monotonic() - begun
        finally:
            server.terminate()
            server.wait(60)


def worker_is_up(workspace: Path) -> None:
    """Wait until the worker beside the app has given a sign of life, and a little for both to come to rest."""
    from app.jobs import Jobs
    from engine.catalog.workspace import Workspace

    with Workspace.open(workspace) as opened, Jobs(opened) as jobs:
        while not ((state := jobs.worker()) and state.alive):
            time.sleep(0.2)
    time.sleep(15)


def page_of_100(tab: Any, address: str) -> float:
    """Seconds from asking for the page until 100 thumbnails are drawn; the browser's cache is off."""
    begun = time.monotonic()
    tab.goto(f"{address}/imagery")
    tab.wait_for_function("document.querySelectorAll('#tiles img').length === 100")
    tab.evaluate("document.querySelectorAll('#tiles img').forEach(image => image.loading = 'eager')")
    tab.wait_for_function("[...document.querySelectorAll('#tiles img')].every(image => image.complete && image.naturalWidth > 0)")
    return time.monotonic() - begun


def next_page(tab: Any) -> float:
    """Seconds from a click on the open page until its other tiles are drawn: what a person who leafs through waits for."""
    before = tab.evaluate("document.querySelector('#tiles img').src")
    begun = time.monotonic()
    tab.get_by_role("button", name="Later tiles").click()
    tab.wait_for_function("before => document.querySelector('#tiles img').src !== before", arg=before)
    tab.evaluate("document.querySelectorAll('#tiles img').forEach(image => image.loading = 'eager')")
    tab.wait_for_function("[...document.querySelectorAll('#tiles img')].every(image => image.complete && image.naturalWidth > 0)")
    seconds = time.monotonic() - begun
    tab.get_by_role("button", name="Earlier tiles").click()
    tab.wait_for_function("before => document.querySelector('#tiles img').src === before", arg=before)
    return seconds


def click_to_start(tab: Any, workspace: Path) -> dict[str, float]:
    """Seconds from the click until the worker has begun the job, by the job store and as the page shows it; then it is cancelled."""
    from app.jobs import Jobs
    from engine.catalog.workspace import Workspace

    with Workspace.open(workspace) as opened, Jobs(opened) as jobs:
        known = {job.id for job in jobs.list()}
        begun = time.monotonic()
        tab.locator("#pretrain").click()
        seen: dict[str, float] = {}
        while len(seen) < 3:
            fresh = [job for job in jobs.list(limit=3) if job.id not in known]
            now = time.monotonic() - begun
            if fresh and fresh[0].state == "running":
                seen.setdefault("running", now)
            if fresh and fresh[0].message and fresh[0].done + fresh[0].total > 0:
                seen.setdefault("first_step_reported", now)
            if "shown" not in seen and tab.evaluate("document.querySelector('#jobs tbody tr')?.cells[1].innerText") == "running":
                seen["shown"] = now
            time.sleep(0.02)
        job = fresh[0]
        asked = time.monotonic()
        jobs.cancel(job.id)
        tab.wait_for_function("document.querySelector('#jobs tbody tr')?.cells[1].innerText === 'cancelled'")
        seen["cancel_shown"] = time.monotonic() - asked
        time.sleep(3)
    return seen


def figure(values: list[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "values": [round(value, 3) for value in values],
    }


def start_alone(out: Path) -> None:
    """The app's start beside what importing Gradio alone takes in that minute, in turn: this machine's speed changes by a factor of two."""
    starts, imports = [], []
    with tempfile.TemporaryDirectory() as folder:
        workspace = fill(Path(folder))
        for _ in range(REPEATS):
            begun = time.monotonic()
            subprocess.run([sys.executable, "-c", "import gradio"], check=True, capture_output=True)
            imports.append(time.monotonic() - begun)
            with serving(workspace) as (_, seconds):
                starts.append(seconds)
    document = {
        "command": f"python tests/bench/service.py {out.name} --only-start",
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "load_at_the_end": os.getloadavg()[0],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "seconds": {"app_up": figure(starts), "import_of_gradio_alone": figure(imports)},
    }
    out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document["seconds"], indent=2))


def main(out: Path) -> None:
    from playwright.sync_api import sync_playwright

    from app.settings import prepare_environment

    prepare_environment()
    chromium = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder:
        workspace = fill(Path(folder))
        starts = []
        for _ in range(REPEATS):
            with serving(workspace) as (_, seconds):
                starts.append(seconds)
        with serving(workspace) as (address, _), sync_playwright() as playwright:
            worker_is_up(workspace)
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            pages, leaves, clicks = [], [], []
            for _ in range(REPEATS + 1):
                tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
                pages.append(page_of_100(tab, address))
                leaves.append(next_page(tab))
                tab.close()
            tab = browser.new_page()
            tab.goto(address)
            tab.get_by_text("Pre-train on all training tiles").click()
            tab.locator("#pretrain").wait_for()
            for _ in range(REPEATS + 1):
                clicks.append(click_to_start(tab, workspace))
            browser.close()
    document = {
        "command": f"python tests/bench/service.py {out.name}",
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "load_at_the_end": os.getloadavg()[0],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "generated_scenes": SCENES,
        "repeats": REPEATS,
        "seconds": {
            "app_up": figure(starts),
            "page_of_100_tiles_first_visit_in_a_new_browser": figure(pages[:1]),
            "page_of_100_tiles_cold_cache": figure(pages[1:]),
            "leaf_to_another_page_of_tiles": figure(leaves[1:]),
            "click_to_running_first_job_of_the_worker": figure([clicks[0]["running"]]),
            "click_to_running": figure([each["running"] for each in clicks[1:]]),
            "click_to_running_shown_on_the_page": figure([each["shown"] for each in clicks[1:]]),
            "click_to_first_training_step_reported": figure([each["first_step_reported"] for each in clicks[1:]]),
            "cancel_to_shown_on_the_page": figure([each["cancel_shown"] for each in clicks[1:]]),
        },
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document["seconds"], indent=2))


if __name__ == "__main__":
    (start_alone if "--only-start" in sys.argv else main)(Path(sys.argv[1]))
