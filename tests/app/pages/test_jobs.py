"""Jobs as a page shows them."""

from __future__ import annotations

import pytest

from app.jobs import Job
from app.pages.jobs import jobs_table, stoppable

HOSTILE = "<img src=x onerror=alert(1)>"


def job(state="running", **changes):
    values = {
        "id": f"{state}-0123456789",
        "verb": "finetune",
        "config": {},
        "inputs": {},
        "state": state,
        "done": 3,
        "total": 10,
        "message": "step",
        "created": 1.0,
        "started": 2.0,
        "ended": 65.0,
        "report": None,
        "error": None,
    }
    return Job(**{**values, **changes})


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (job(), ["running", "step 3/10", '<progress value="3" max="10">', "1:03"]),
        (job("failed", error={"found": "no tile", "remedy": "Take imagery in"}), ["failed", "no tile", "do: Take imagery in"]),
        (job("interrupted"), ["interrupted", "goes on where it was"]),
        (job("done", report={"model": "m", "boxes": 5, "tiles": [1]}), ["done", "model m", "boxes 5"]),
        (job(total=0), ["<progress></progress>"]),
    ],
)
def test_each_state_says_what_matters(shown, words):
    table = jobs_table([shown], worker=True)
    for expected in words:
        assert expected in table


def test_what_a_job_says_is_escaped():
    shown = [job(message=HOSTILE), job("failed", error={"found": HOSTILE, "remedy": HOSTILE}), job("done", report={HOSTILE: HOSTILE})]
    assert HOSTILE not in jobs_table(shown, worker=True)


@pytest.mark.guarantee("G28")
def test_without_a_worker_waiting_jobs_say_so():
    assert "No worker" in jobs_table([job("queued")], worker=False)
    assert "No worker" not in jobs_table([job("queued")], worker=True)
    assert "No worker" not in jobs_table([job("done")], worker=False)


def test_only_what_goes_on_can_be_stopped_and_only_what_stopped_goes_on():
    every = [job(state) for state in ("queued", "running", "interrupted", "cancelled", "failed", "done")]
    stop, go_on = stoppable(every)
    assert [each for _, each in stop] == ["queued-0123456789", "running-0123456789"]
    assert [each for _, each in go_on] == ["interrupted-0123456789", "cancelled-0123456789", "failed-0123456789"]
