"""Progress for people: quiet enough for a log, one line on a terminal, and the place where a job stops."""

from __future__ import annotations

import io
import itertools
import os
import signal
import sys

import pytest

from app.cli.progress import CLEAR_LINE, TerminalProgress, job
from engine.errors import Cancelled


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_log_gets_a_line_at_most_every_five_seconds(clock):
    stream = io.StringIO()
    progress = TerminalProgress(stream, rewrite=False, clock=clock)
    written_at = []
    for done in range(200):
        before = stream.tell()
        progress(done, 200, f"stage {done // 50}")
        if stream.tell() > before:
            written_at.append(clock.now)
        clock.now += 0.1
    assert len(written_at) == 4
    assert min(later - earlier for earlier, later in itertools.pairwise(written_at)) >= 5 - 1e-9
    assert CLEAR_LINE not in stream.getvalue()


def test_line_says_rate_and_time_left(clock):
    stream = io.StringIO()
    progress = TerminalProgress(stream, rewrite=False, clock=clock)
    progress(10, 100, "reading tiles")
    clock.now += 10
    progress(30, 100, "reading tiles")
    assert stream.getvalue().splitlines() == ["reading tiles  10/100", "reading tiles  30/100  2/s  0:35 left"]


def test_message_that_changes_keeps_the_rate_and_the_line(clock):
    stream = io.StringIO()
    progress = TerminalProgress(stream, rewrite=True, clock=clock)
    for done in range(3):
        progress(done, 10, f"loss {10 - done}")
        clock.now += 1
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().split(CLEAR_LINE)[-1] == "loss 8  2/10  1/s  0:08 left"


def test_other_work_is_measured_anew_on_a_line_of_its_own(clock):
    stream = io.StringIO()
    progress = TerminalProgress(stream, rewrite=True, clock=clock)
    for total, seconds in ((10, 1), (20, 2)):
        for done in range(3):
            progress(done, total, "x")
            clock.now += seconds
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("x  2/20  0.5/s  0:36 left")


@pytest.mark.parametrize(("done", "seconds", "left"), [(10, 10, "1:30"), (1, 60, "1:39:00"), (99, 99, "0:01")])
def test_time_left_is_written_in_minutes_or_hours(clock, done, seconds, left):
    stream = io.StringIO()
    progress = TerminalProgress(stream, rewrite=False, clock=clock)
    progress(0, 100, "")
    clock.now += seconds
    progress(done, 100, "")
    assert f"{left} left" in stream.getvalue()


def test_terminal_line_rewrites_itself_and_ends_when_the_work_does(clock):
    stream = io.StringIO()
    progress = TerminalProgress(stream, rewrite=True, clock=clock)
    for done in range(4):
        progress(done, 3, "ingest")
        clock.now += 1
    assert stream.getvalue().count(CLEAR_LINE) == 4
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\n")


def test_unknown_total_shows_what_is_done(clock):
    stream = io.StringIO()
    TerminalProgress(stream, rewrite=False, clock=clock)(7, 0, "members")
    assert stream.getvalue() == "members  7\n"


def test_next_report_after_cancel_raises(clock):
    progress = TerminalProgress(io.StringIO(), rewrite=True, clock=clock)
    progress(0, 2, "x")
    progress.cancel()
    with pytest.raises(Cancelled):
        progress(1, 2, "x")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cancels_a_job_at_its_next_report_and_leaves_handlers_as_they_were(number):
    before = signal.getsignal(number)
    with pytest.raises(Cancelled), job() as progress:  # noqa: PT012
        progress(0, 2, "x")
        os.kill(os.getpid(), number)
        progress(1, 2, "x")
    assert signal.getsignal(number) is before


def test_second_signal_stops_at_once():
    with pytest.raises(KeyboardInterrupt), job() as progress:  # noqa: PT012
        progress(0, 2, "x")
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


def test_signal_before_the_first_report_stops_at_once():
    with pytest.raises(KeyboardInterrupt), job():
        os.kill(os.getpid(), signal.SIGTERM)


def test_what_a_library_prints_during_a_job_stays_out_of_the_answer(capsys):
    with job():
        sys.stdout.write("noise")
    sys.stdout.write("answer")
    out, err = capsys.readouterr()
    assert out == "answer"
    assert "noise" in err
