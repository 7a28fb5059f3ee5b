import math

import pytest

from connectors.formats.contract import ReadOptions
from connectors.formats.features import PIXEL_COLUMNS, Columns, class_name_of, pick_columns, require_classes
from engine.errors import BadInput, UsageError

OURS = {"scene": True, "class": True, **dict.fromkeys(PIXEL_COLUMNS, False)}


@pytest.mark.parametrize(
    ("columns", "options", "expected"),
    [
        ({"id": False, "Class": True, "type": True}, {}, Columns("Class", None)),
        ({"type": False, "LABEL": False}, {}, Columns("LABEL", None)),
        ({"id": False, "species": True}, {}, Columns("species", None)),
        ({"a": True, "b": True}, {"class_column": "b"}, Columns("b", None)),
        ({}, {"class_name": "tree"}, Columns(None, None)),
        (OURS, {}, Columns("class", "scene")),
        (OURS, {"class_name": "tree"}, Columns(None, "scene")),
        ({"scene": True, "class": True}, {}, Columns("class", None)),
    ],
)
def test_the_column_of_classes_is_named_or_guessed(columns, options, expected):
    assert pick_columns("trees", columns, ReadOptions(**options)) == expected


@pytest.mark.parametrize(
    ("columns", "options", "named"),
    [
        ({"a": True, "b": True}, {}, "trees: which column.*a, b"),
        ({"a": False}, {}, "trees: which column.*: a"),
        ({}, {}, "it has no column"),
        ({"a": True, "b": True}, {"class_column": "c"}, "no column 'c'.*a, b"),
        ({}, {"class_column": "c"}, "no column 'c'.*it has no column"),
    ],
)
def test_a_column_that_is_not_there_or_cannot_be_guessed_lists_all(columns, options, named):
    with pytest.raises(BadInput, match=named):
        pick_columns("trees", columns, ReadOptions(**options))


def test_a_column_and_a_class_for_all_are_one_too_many():
    with pytest.raises(UsageError):
        pick_columns("trees", {"a": True}, ReadOptions(class_column="a", class_name="tree"))


@pytest.mark.parametrize(
    ("column", "classes", "refused"),
    [
        ("osm_id", [str(number) for number in range(30)], True),
        ("osm_id", [str(number) for number in range(30)] * 2, False),
        ("osm_id", [str(number) for number in range(20)], False),
        ("osm_id", [*map(str, range(21)), *[None] * 500], True),
        ("Class", [str(number) for number in range(30)], False),
        ("Class", [str(number) for number in range(1001)] * 5, True),
    ],
)
def test_a_guessed_column_of_names_is_no_column_of_classes(column, classes, refused):
    def check(columns, **options):
        require_classes("trees", columns, classes, ReadOptions(**options))

    if refused:
        with pytest.raises(BadInput, match=rf"trees: the column '{column}' has \d+ different values.*--class-column.*--class-name"):
            check(Columns(column, None))
    else:
        check(Columns(column, None))
    check(Columns(column, None), class_column=column)
    check(Columns(column, "scene"))
    check(Columns(None, None), class_name="tree")


@pytest.mark.parametrize(
    ("value", "name"),
    [(" oak ", "oak"), (3, "3"), (3.0, "3"), (3.5, "3.5"), ("", None), ("  ", None), (None, None), (math.nan, None), (math.inf, "inf")],
)
def test_a_value_is_a_name_or_nothing(value, name):
    assert class_name_of(value) == name
