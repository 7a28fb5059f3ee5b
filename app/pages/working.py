"""How long somebody really works at a page: a pause counts up to a limit, however long it is."""

from __future__ import annotations

import math

__all__ = ["counted", "seconds_worked"]

COUNTER = """(...values) => {
    window.tilehawkWorked ??= (() => {
        let seconds = 0, last = performance.now();
        const count = () => {
            const now = performance.now();
            seconds += Math.min((now - last) / 1000, PAUSE);
            last = now;
        };
        for (const kind of ["pointerdown", "pointermove", "keydown", "wheel"])
            window.addEventListener(kind, count, {capture: true, passive: true});
        return () => { count(); return seconds; };
    })();
    return [...values.slice(0, -1), window.tilehawkWorked()];
}"""
"""Makes the last of a listener's inputs the seconds since the page was opened, pauses between moves, clicks, keys and the wheel cut."""


def counted(pause_seconds: float) -> str:
    """The script that a listener runs in the browser first: its last input becomes the seconds worked on the page so far."""
    return COUNTER.replace("PAUSE", repr(float(pause_seconds)))


def seconds_worked(count: float | None, before: float, elapsed: float) -> float:
    """Seconds from one count of the browser to a later one, never more than went by here; these, where the browser did not count."""
    if count is None or not math.isfinite(count):
        return elapsed
    return min(max(count - before, 0.0), elapsed)
