"""Progress on a terminal or in a log, and the signals that stop a job."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TextIO

from engine.errors import Cancelled

__all__ = ["TerminalProgress", "job"]

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_REDRAWS = 0.1
CLEAR_LINE = "\r\x1b[K"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class TerminalProgress:
    """A :class:`engine.progress.Progress` for people.

    On a terminal one line rewrites itself, with rate and remaining time; elsewhere a line is written at most every five seconds.

    Args:
        stream: where to write, standard error as a rule.
        rewrite: whether the stream is a terminal that can rewrite a line.
        clock: seconds that only grow.
    """

    def __init__(self, stream: TextIO, *, rewrite: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._rewrite = rewrite
        self._clock = clock
        self._cancelled = False
        self._message: str | None = None
        self._total = 0
        self._done = 0
        self._first_done = 0
        self._started = 0.0
        self._written: float | None = None
        self._line_open = False

    @property
    def begun(self) -> bool:
        """Whether the job has reported anything yet."""
        return self._message is not None

    @property
    def cancelled(self) -> bool:
        """Whether the job has been asked to stop."""
        return self._cancelled

    def cancel(self) -> None:
        """Make the next report raise :class:`Cancelled`."""
        self._cancelled = True

    def __call__(self, done: int, total: int, message: str) -> None:
        """Report ``done`` of ``total`` units; ``total`` 0 where it is not known.

        Another total, or less done than before, is other work: its rate is measured anew. The message may change at every report.

        Raises:
            Cancelled: the user asked to stop.
        """
        if self._cancelled:
            self.close()
            raise Cancelled("stopped by the user", remedy="What was finished is kept: the same command goes on from there")
        now = self._clock()
        if self._message is None or total != self._total or done < self._done:
            self.close()
            self._first_done, self._started = done, now
            if self._rewrite:
                self._written = None
        self._message, self._total, self._done = message, total, done
        last = bool(total) and done >= total
        interval = SECONDS_BETWEEN_REDRAWS if self._rewrite else SECONDS_BETWEEN_LINES
        if self._written is not None and now - self._written < interval and not (last and self._rewrite):
            return
        self._written = now
        self._write(self._line(done, total, now))
        if last:
            self.close()

    def close(self) -> None:
        """End the line that is being rewritten, if there is one."""
        if self._line_open:
            self._stream.write("\n")
            self._stream.flush()
            self._line_open = False

    def _line(self, done: int, total: int, now: float) -> str:
        parts = [self._message or "", f"{done}/{total}" if total else f"{done}"]
        elapsed = now - self._started
        if elapsed > 0 and done > self._first_done:
            rate = (done - self._first_done) / elapsed
            parts.append(f"{rate:.3g}/s")
            if total > done:
                parts.append(f"{_duration((total - done) / rate)} left")
        return "  ".join(part for part in parts if part)

    def _write(self, line: str) -> None:
        self._stream.write(f"{CLEAR_LINE}{line}" if self._rewrite else f"{line}\n")
        self._stream.flush()
        self._line_open = self._rewrite


@contextlib.contextmanager
def job() -> Iterator[TerminalProgress]:
    """Run a stage under this: yields its progress, turns SIGINT and SIGTERM into ``Cancelled`` at the next report.

    A signal before the first report, or a second one, stops at once (KeyboardInterrupt). What libraries print goes to standard
    error meanwhile, for standard output belongs to the answer.
    """
    progress = TerminalProgress(sys.stderr, rewrite=sys.stderr.isatty())

    def stop(_number: int, _frame: FrameType | None) -> None:
        if progress.cancelled or not progress.begun:
            raise KeyboardInterrupt
        progress.cancel()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield progress
    finally:
        progress.close()
        for number, handler in previous.items():
            signal.signal(number, handler)
