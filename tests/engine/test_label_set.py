import time

import pytest

from engine.errors import BadInput
from engine.label_set import LabelSet


def test_a_hundred_thousand_names_are_checked_at_once():
    names = [f"class {number}" for number in range(100_000)]
    began = time.process_time()
    assert len(LabelSet.of(names)) == 100_000
    with pytest.raises(BadInput, match="'class 7' stands twice"):
        LabelSet.of([*names, "class 7"])
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", ["", " car", "car "])
def test_a_name_with_blanks_around_it_or_none_is_refused(name):
    with pytest.raises(BadInput, match="the class name"):
        LabelSet.of(["ship", name])
