"""The protocol of one-shot detection: who is asked for what, with which crops, and what the answers are worth."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.boxes import Boxes
from engine.errors import NothingToDo
from engine.evaluation.one_shot import LabelledImage, Question, one_shot_metrics, one_shot_questions
from engine.label_set import LabelSet
from engine.records import Ground, Window

CLASSES = LabelSet.of(["car", "ship", "tree"])


def image(number, *objects, ground=None):
    """An image with (left, label) objects of 10 px each."""
    xyxy = np.array([[left, 0, left + 10, 10] for left, _ in objects], np.float64).reshape(-1, 4)
    return LabelledImage(number, Boxes(xyxy, np.array([label for _, label in objects], np.int64)), ground)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=4), min_size=1, max_size=6), st.integers(1, 6))
def test_every_image_is_asked_for_each_class_it_shows_with_crops_from_others_in_the_order_of_its_id(labels, rounds):
    images = [image(50 + number, *((20 * place, label) for place, label in enumerate(each))) for number, each in enumerate(labels)]
    asked = one_shot_questions(images, rounds=rounds)
    assert len(asked) == rounds
    for turn, questions in enumerate(asked):
        expected = []
        for index, each in enumerate(labels):
            for label in sorted(set(each)):
                crops = [
                    (shown, 20.0 * place)
                    for shown, other in enumerate(labels)
                    for place, known in enumerate(other)
                    if shown != index and known == label
                ]
                random.Random(50 + index).shuffle(crops)
                if crops:
                    shown, left = crops[turn % len(crops)]
                    expected.append(Question(index, label, shown, (left, 0.0, left + 10, 10.0)))
        assert questions == expected


def test_small_boxes_are_found_but_nothing_is_asked_with_them():
    small = LabelledImage(1, Boxes(np.array([[0, 0, 7, 30]]), np.array([0])))
    [questions] = one_shot_questions([small, image(2, (0, 0))], rounds=1)
    assert [(question.image, question.shown) for question in questions] == [(0, 1)]


def test_a_tile_is_not_asked_with_what_it_shows_itself_cut_out_of_its_neighbour():
    tiles = [Ground(1, Window(left, 0, 64, 64)) for left in (0, 32, 200)]
    images = [image(0, (40, 0), ground=tiles[0]), image(1, (8, 0), (50, 0), ground=tiles[1]), image(2, (5, 0), ground=tiles[2])]
    shown = {(question.image, question.shown, question.box[0]) for questions in one_shot_questions(images) for question in questions}
    assert shown == {(0, 1, 50), (0, 2, 5), (1, 2, 5), (2, 0, 40), (2, 1, 8), (2, 1, 50)}


def answered(images, questions, right):
    """Every question's true boxes where ``right`` says so, else one box beside them."""
    found = []
    for question in questions:
        true = images[question.image].boxes
        xyxy = true.xyxy[true.labels == question.label]
        xyxy = xyxy if right(question) else xyxy[:1] + np.array([0, 100, 0, 100])
        found.append(Boxes(xyxy, np.zeros(len(xyxy)), np.full(len(xyxy), 0.5)))
    return found


def test_each_class_is_measured_alone_and_seen_and_unseen_ones_apart():
    images = [image(number, (0, 0), (20, 1), (40, 1)) for number in range(4)]
    asked = one_shot_questions(images, rounds=3)
    found = [
        answered(images, questions, lambda question, turn=turn: question.label == 0 or turn == 0) for turn, questions in enumerate(asked)
    ]
    measured = one_shot_metrics(images, asked, found, CLASSES, unseen=["ship"])
    assert measured.rounds_per_class == {"car": [1, 1, 1], "ship": [1, 0, 0], "tree": []}
    assert measured.ap50_per_class == {"car": 1, "ship": pytest.approx(1 / 3), "tree": None}
    assert (measured.seen, measured.unseen) == (1, pytest.approx(1 / 3))
    assert (measured.unseen_classes, measured.images, measured.questions) == (("ship",), 4, 24)
    assert one_shot_metrics(images, asked, found, CLASSES).unseen is None


def test_what_is_found_where_a_class_is_not_costs_precision():
    images = [image(number, (0, 0)) for number in range(3)]
    asked = one_shot_questions(images, rounds=1)
    doubled = [
        [Boxes(np.array([[0, 50, 10, 60], [0, 0, 10, 10]], np.float64), np.zeros(2), np.array([0.9, 0.5])) for _ in asked[0]],
    ]
    assert one_shot_metrics(images, asked, doubled, CLASSES).seen == pytest.approx(0.5, abs=0.02)


def test_no_answer_at_all_is_nothing():
    images = [image(number, (0, 0)) for number in range(3)]
    asked = one_shot_questions(images, rounds=2)
    found = [[Boxes.empty(scored=True) for _ in questions] for questions in asked]
    assert one_shot_metrics(images, asked, found, CLASSES).seen == 0


def test_without_a_class_on_two_images_there_is_nothing_to_measure():
    images = [image(0, (0, 0)), image(1, (0, 1))]
    asked = one_shot_questions(images)
    assert asked == [[]] * 5
    with pytest.raises(NothingToDo, match="on two of 2 images"):
        one_shot_metrics(images, asked, [[]] * 5, CLASSES)
