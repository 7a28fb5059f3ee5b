"""Errors become the line of news, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest

from engine.errors import BadInput

HOSTILE = "<img src=x onerror=alert(1)>"


def refuse(*_values):
    raise BadInput(f"a file {HOSTILE}", expected="another", remedy="Choose another")


def test_an_error_is_said_with_its_remedy_and_escaped_and_the_rest_stays(context):
    kept, also, news = context.answer(refuse, outputs=3)("typed")
    assert kept == also == gr.skip()
    assert "Choose another" in news
    assert "expected: another" in news
    assert HOSTILE not in news


def test_one_output_alone_is_the_news(context):
    assert "Choose another" in context.answer(refuse, outputs=1)()
    assert context.answer(lambda: "fine", outputs=1)() == "fine"


def test_what_is_not_an_error_of_ours_is_not_hidden(context):
    with pytest.raises(ZeroDivisionError):
        context.answer(lambda: 1 / 0, outputs=1)()


@pytest.mark.guarantee("G27")
def test_a_read_only_app_refuses_what_changes_something_and_answers_the_rest(context):
    shut = replace(context, read_only=lambda: "process 7 has the workspace")
    done = []
    assert "process 7" in shut.answer(lambda: done.append(1), outputs=1, changes=True)()
    assert done == []
    assert shut.answer(lambda: "shown", outputs=1)() == "shown"
