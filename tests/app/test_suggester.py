"""The models are asked by one thread, in turns; nobody waits for them who does not have to."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app import suggester
from app.suggester import Suggester
from engine.boxes import Boxes
from engine.errors import WorkspaceBusy


class Slow:
    """Answers once it is told to; notes who asked for what in which thread."""

    def __init__(self):
        self.go_on, self.asked, self.threads = threading.Event(), [], set()

    def _note(self, what):
        self.threads.add(threading.get_ident())
        assert self.go_on.wait(20)
        self.asked.append(what)

    def on_tiles(self, tile_ids):
        self._note(list(tile_ids))
        return dict.fromkeys(tile_ids)

    def look_alikes(self, tile_id, drawn):
        self._note(tile_id)


def test_a_question_for_many_tiles_lets_others_in_between():
    slow = Slow()
    asked = Suggester(lambda: slow)

    async def ask():
        many = asyncio.create_task(asked.on_tiles(list(range(10))))
        await asyncio.sleep(0)
        drawn = asyncio.create_task(asked.look_alikes(99, Boxes.empty()))
        await asyncio.sleep(0)
        slow.go_on.set()
        return await asyncio.gather(many, drawn)

    found, _ = asyncio.run(ask())
    assert slow.asked == [[0, 1, 2, 3], 99, [4, 5, 6, 7], [8, 9]]
    assert sorted(found) == list(range(10))


def test_one_thread_asks_and_it_is_not_the_loops():
    slow, made = Slow(), []
    slow.go_on.set()

    def make():
        made.append(threading.get_ident())
        return slow

    asked = Suggester(make)

    async def ask():
        await asyncio.gather(*(asked.on_tiles([number]) for number in range(5)))
        return threading.get_ident()

    loop = asyncio.run(ask())
    assert len(made) == 1
    assert slow.threads == set(made)
    assert loop not in slow.threads


def test_nothing_is_made_before_the_first_question():
    made = []
    Suggester(lambda: made.append(1))
    assert made == []


def test_a_crowd_is_sent_away_and_served_again_later():
    slow = Slow()
    asked = Suggester(lambda: slow)

    async def ask():
        waiting = [asyncio.create_task(asked.look_alikes(number, Boxes.empty())) for number in range(suggester.MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(WorkspaceBusy):
            await asked.look_alikes(0, Boxes.empty())
        slow.go_on.set()
        await asyncio.gather(*waiting)
        await asked.look_alikes(0, Boxes.empty())

    asyncio.run(ask())
    assert len(slow.asked) == suggester.MOST_WAITING + 1
