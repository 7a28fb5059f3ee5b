import pytest

from engine.imagery.names import MemberNames, is_system_junk, name_refusal, printable


@pytest.mark.parametrize(
    "name", ["a.png", "./a.png", "scenes/2024/a b.tif", "Überflug/Straße.jpg", "a..b.png", "...a.png", "10:30.png", "-a.png", "图像.png"]
)
def test_plain_relative_names_are_accepted(name):
    assert name_refusal(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../a.png", "leads out"),
        ("x/../a.png", "leads out"),
        ("/a.png", "absolute"),
        ("C:/a.png", "drive"),
        ("x\\a.png", "backslash"),
        ("a\0.png", "control"),
        ("\udcff.png", "valid text"),
        ("a.png.", "ends in"),
        ("a.png ", "ends in"),
        ("x/ /a.png", "dots and spaces"),
        ("", "empty"),
        ("x" * 1025, "1025"),
    ],
)
def test_a_refused_name_has_its_reason(name, reason):
    assert reason in name_refusal(name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.png", "A.PNG"),
        ("a.png", "a.png"),
        ("x/a.png", "./x/a.png"),
        ("x/a.png", "x//a.png"),
        ("é.png", "e\u0301.png"),
        ("ss.png", "ß.png"),
    ],
)
def test_the_second_of_two_names_that_a_file_system_may_take_for_one_is_refused(first, second):
    names = MemberNames()
    assert names.refusal(first) is None
    assert names.refusal(second)


@pytest.mark.parametrize(
    ("name", "junk"),
    [("__MACOSX/a.png", True), ("x/.DS_Store", True), ("x/Thumbs.db", True), ("x/._a.png", True), ("x/.a.png", False), ("__MACOSX", False)],
)
def test_system_junk_is_told_by_its_name(name, junk):
    assert is_system_junk(name) == junk


@pytest.mark.parametrize("name", ["a\n.png", "a\x1b[2J", "\udcff.png", "a\u202egnp.exe", "x" * 5000])
def test_names_are_shown_as_printable_text(name):
    shown = printable(name)
    assert shown.isprintable()
    assert len(shown) <= 1024
    shown.encode("utf-8")
