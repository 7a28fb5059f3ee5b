"""Verbs for a worker in this process: they do what their configuration says, and note what happened."""

import threading
import time
from types import SimpleNamespace
from typing import Literal

from app.workflows import verbs
from engine.catalog.schema import Source
from engine.config import StageConfig
from engine.errors import Cancelled, NothingToDo

PATIENCE = 30.0


class ActConfig(StageConfig):
    """What the verb does."""

    name: str = "act"
    ends: Literal["well", "refused", "broken", "when told"] = "well"
    reports: int = 3
    writing: bool = False


class World:
    """What the verbs note: ``events`` as (name, what), and how many are inside at once."""

    def __init__(self):
        self.go = threading.Event()
        self.events = []
        self.inside = 0
        self.most_inside = 0
        self.repaired = False


world = World()


def act(workspace, config, *, progress):
    """Report ``reports`` times; "when told" goes on reporting until ``world.go``. ``writing``: inside of a writing transaction."""
    with workspace.worker_lock(config.name):
        world.inside += 1
        world.most_inside = max(world.inside, world.most_inside)
        world.events.append((config.name, "begins"))
        try:
            if config.writing:
                with workspace.session() as session:
                    session.add(Source(name=config.name, kind="zip", identity=config.name, config={}))
                    session.flush()
                    _report(config, progress)
            else:
                _report(config, progress)
        except Cancelled:
            world.events.append((config.name, "stopped"))
            raise
        finally:
            world.inside -= 1
        world.events.append((config.name, "ends"))
    return {"name": config.name, "values": (1, 2)}


def _report(config, progress):
    for done in range(config.reports):
        progress(done, config.reports, f"acting {done}")
    if config.ends == "refused" and not world.repaired:
        raise NothingToDo("nothing was found", expected="something", remedy="Bring something")
    if config.ends == "broken" and not world.repaired:
        raise ZeroDivisionError("a fault\nof two lines")
    deadline = time.monotonic() + PATIENCE
    while config.ends == "when told" and not world.go.wait(0.01):
        assert time.monotonic() < deadline
        progress(config.reports, config.reports, "waiting")
    progress(config.reports, config.reports, "acted")


def flow(steps, config):
    """Two steps; the second one ends as ``config`` says."""
    first = steps("first", lambda progress: act(steps.workspace, ActConfig(name="first"), progress=progress))
    second = steps("second", lambda progress: act(steps.workspace, config, progress=progress))
    return {"first": first["name"], "second": second["name"]}


def install(monkeypatch):
    """Make ``act`` and ``flow`` the only verbs."""
    name = __name__
    known = SimpleNamespace(
        act=verbs.Verb("act", f"{name}:ActConfig", f"{name}:act"), flow=verbs.Verb("flow", f"{name}:ActConfig", f"{name}:flow", flow=True)
    )
    monkeypatch.setattr(verbs, "VERBS", vars(known))


def renew():
    """Forget what happened; returns the new world."""
    global world
    world = World()
    return world
