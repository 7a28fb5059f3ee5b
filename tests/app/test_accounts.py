"""Accounts, attempts and sessions."""

from __future__ import annotations

import itsdangerous
import pytest

from app.accounts import SESSION_SECONDS, Accounts, Attempts, Passwords, Sessions
from app.signing import Signer
from engine.catalog.schema import UserRow
from engine.catalog.workspace import Workspace
from engine.errors import BadInput

CHEAP = Passwords(cost=2**4)
PASSWORD = "correct horse"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


@pytest.fixture
def accounts(workspace):
    made = Accounts(workspace, CHEAP)
    made.add("anna", PASSWORD)
    return made


def test_password_is_salted_and_never_kept():
    first, second = CHEAP.hash(PASSWORD), CHEAP.hash(PASSWORD)
    assert first != second
    assert PASSWORD not in first
    assert CHEAP.matches(PASSWORD, first)
    assert CHEAP.matches(PASSWORD, second)


def test_hash_says_what_it_cost_so_that_the_cost_may_rise():
    assert Passwords(cost=2**5).matches(PASSWORD, CHEAP.hash(PASSWORD))


def test_default_cost_is_what_is_recommended_today():
    assert (Passwords().cost, Passwords().block_size, Passwords().parallel) == (2**15, 8, 1)


@pytest.mark.parametrize("wrong", ["", "correct hors", "correct horse ", "Correct horse", "x" * 10_000_000])
def test_any_other_password_does_not_match(wrong):
    assert not CHEAP.matches(wrong, CHEAP.hash(PASSWORD))


def test_endless_password_never_matches_even_itself():
    assert not CHEAP.matches("x" * 257, CHEAP.hash("x" * 257))


@pytest.mark.parametrize(
    ("name", "password", "right"),
    [("anna", PASSWORD, True), ("anna", "wrong horse", False), ("berta", PASSWORD, False), ("", "", False), ("anna", "", False)],
)
def test_name_and_password_go_together(accounts, name, password, right):
    assert accounts.check(name, password) is right


def test_unknown_name_costs_as_much_as_a_known_one(workspace):
    counted = []

    class Counting(Passwords):
        def _scrypt(self, *arguments):
            counted.append(arguments)
            return super()._scrypt(*arguments)

    accounts = Accounts(workspace, Counting(cost=2**4))
    accounts.add("anna", PASSWORD)
    for name in ("anna", "berta"):
        counted.clear()
        accounts.check(name, "some word")
        assert len(counted) == 1


@pytest.mark.parametrize("name", ["", " anna", "an na", "../x", "a" * 65, "<b>", "änna", "-x"])
def test_name_of_another_form_is_refused(accounts, name):
    with pytest.raises(BadInput, match="user name"):
        accounts.add(name, PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_password_too_short_or_too_long_is_refused_without_being_named(accounts, password):
    with pytest.raises(BadInput, match=f"password of {len(password)} characters"):
        accounts.add("berta", password)
    assert accounts.names() == ["anna"]


def test_removed_account_is_gone_and_an_unknown_one_named(accounts):
    accounts.add("berta", PASSWORD)
    accounts.remove("anna")
    assert accounts.names() == ["berta"]
    assert not accounts.check("anna", PASSWORD)
    with pytest.raises(BadInput, match=r"'anna'.*berta"):
        accounts.remove("anna")


def test_session_is_its_user_s(workspace, accounts):
    sessions = Sessions(accounts, Signer.of(workspace))
    assert sessions.user(sessions.begin("anna")) == "anna"


@pytest.mark.parametrize("forge", [lambda c: c[:-1], lambda c: "x" + c, lambda c: "", lambda c: "é", lambda c: c.split(".")[0]])
def test_forged_session_is_nobody_s(workspace, accounts, forge):
    sessions = Sessions(accounts, Signer.of(workspace))
    assert sessions.user(forge(sessions.begin("anna"))) is None


def test_session_of_another_secret_is_nobody_s(workspace, accounts):
    theirs = Sessions(accounts, Signer(b"1" * 32)).begin("anna")
    assert Sessions(accounts, Signer.of(workspace)).user(theirs) is None


@pytest.mark.parametrize("change", [lambda accounts: accounts.remove("anna"), lambda accounts: accounts.add("anna", "another word")])
def test_session_ends_with_its_account_or_password_within_seconds(workspace, accounts, change):
    clock = Clock()
    sessions = Sessions(accounts, Signer.of(workspace), clock=clock)
    cookie = sessions.begin("anna")
    assert sessions.user(cookie) == "anna"
    change(accounts)
    clock.now += 2
    assert sessions.user(cookie) is None


def test_role_counts_within_seconds_and_logs_nobody_out(workspace, accounts):
    clock = Clock()
    sessions = Sessions(accounts, Signer.of(workspace), clock=clock)
    cookie = sessions.begin("anna")
    assert sessions.role("anna") == "engineer", "an account of which nobody says what it may do"
    accounts.set_role("anna", "annotator")
    clock.now += 2
    assert (sessions.user(cookie), sessions.role("anna")) == ("anna", "annotator")
    assert sessions.role("berta") is None
    with pytest.raises(BadInput, match=r"'berta'.*anna"):
        accounts.set_role("berta", "manager")


def test_account_without_a_password_lets_nobody_in(workspace, accounts):
    """As a backup without secrets leaves it."""
    sessions = Sessions(accounts, Signer.of(workspace))
    with workspace.session() as session:
        session.get_one(UserRow, "anna").password_hash = ""
    assert not accounts.check("anna", PASSWORD)
    assert not accounts.check("anna", "")
    assert sessions.user(sessions.begin("anna")) is None


def test_session_ends_after_twelve_hours(workspace, accounts, monkeypatch):
    sessions = Sessions(accounts, Signer.of(workspace))
    clock = Clock()
    monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda self: int(clock.now))
    cookie = sessions.begin("anna")
    clock.now += SESSION_SECONDS
    assert sessions.user(cookie) == "anna"
    clock.now += 1
    assert sessions.user(cookie) is None


def test_attempts_are_bounded_by_whoever_tries_and_come_back():
    clock = Clock()
    attempts = Attempts(3, 60.0, clock=clock)
    for _ in range(3):
        assert attempts.wait_seconds("there") == 0
        attempts.failed("there")
        clock.now += 10
    assert attempts.wait_seconds("there") == 30
    assert attempts.wait_seconds("elsewhere") == 0
    assert attempts.wait_seconds("elsewhere", "there") == 30
    clock.now += 30
    assert attempts.wait_seconds("there") == 0


def test_attempts_remember_only_so_many():
    attempts = Attempts(1, 60.0, clock=Clock())
    for number in range(10_001):
        attempts.failed(str(number))
    assert attempts.wait_seconds("0") == 0
    assert attempts.wait_seconds("1") > 0
