"""Requests under faults: what is repeated, when it is given up, and that each refusal says what to do and no secret."""

from __future__ import annotations

import time
from typing import Any

import pytest

from connectors.label_studio.client import LabelStudioServer
from connectors.label_studio.connection import REPEATS, normal_address
from engine.errors import BadInput, TilehawkError


@pytest.mark.guarantee("G19")
@pytest.mark.parametrize("fault", ["reset", "502", "late", "cut", "torn"])
def test_what_may_be_asked_twice_is_asked_again_after_a_growing_pause(studio, server, pauses, fault):
    studio.faults = {1: fault, 2: fault}
    assert server.who() == "ada@example.com"
    assert len(studio.log) == 3
    assert 0.25 <= pauses[0] <= 0.75 <= 2 * pauses[1]
    assert len(pauses) == 2


@pytest.mark.guarantee("G19")
@pytest.mark.parametrize("fault", ["reset", "502", "torn"])
def test_it_gives_up_in_the_end_and_says_what_to_do(studio, server, fault):
    studio.faults = dict.fromkeys(range(1, 10), fault)
    with pytest.raises(TilehawkError, match=r"cannot be reached.*run the same command again") as refusal:
        server.who()
    assert not isinstance(refusal.value, BadInput)
    assert len(studio.log) == REPEATS


@pytest.mark.guarantee("G19")
def test_an_answer_that_drips_is_given_up_as_a_whole_and_asked_for_again(studio, fake):
    patient = LabelStudioServer(studio.url, fake("label_studio_server").TOKEN, pause=lambda _: None, answer_seconds=1.0)
    assert patient.who() == "ada@example.com"
    studio.every = (1, "slow")
    began = time.monotonic()
    with pytest.raises(TilehawkError, match=r"cannot be reached \(ReadTimeout\)"):
        patient.who()
    assert len(studio.log) == 1 + REPEATS
    assert time.monotonic() - began < fake("label_studio_server").SECONDS_A_BYTE * 400


def test_a_page_of_something_else_is_no_label_studio(studio, server):
    studio.faults = {1: "html"}
    with pytest.raises(BadInput, match=r"is not a Label Studio.*tilehawk connect"):
        server.who()


def test_another_json_service_is_no_label_studio(studio, fake):
    with pytest.raises(BadInput, match="is not a Label Studio"):
        LabelStudioServer(f"{studio.url}/elsewhere", fake("label_studio_server").TOKEN).who()


def test_nobody_there_is_said_with_the_address(fake):
    with pytest.raises(TilehawkError, match=r"http://127.0.0.1:9 cannot be reached \(ConnectError\)"):
        LabelStudioServer("http://127.0.0.1:9/", "x", pause=lambda _: None).who()


@pytest.fixture
def token(fake):
    return fake("label_studio_server").signed


@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")
def test_a_personal_access_token_is_exchanged_and_renewed_when_it_ran_out(studio, token):
    lasting, brief, fresh = token("refresh", 9000), token("access", -1), token("access", 300)
    studio.refresh[lasting] = brief
    studio.tokens |= {brief: "Bearer", fresh: "Bearer"}
    server = LabelStudioServer(studio.url, lasting)
    assert server.who() == "ada@example.com"
    studio.refresh[lasting] = fresh
    del studio.tokens[brief]
    assert server.who() == "ada@example.com"
    assert server.who() == "ada@example.com"
    assert [path for _, path in studio.log].count("/api/token/refresh") == 2


def test_a_personal_access_token_that_ran_out_or_was_revoked_is_a_wrong_token(studio, token):
    for dead in (token("refresh", -10), token("refresh", 900)):
        with pytest.raises(BadInput, match="refuses the token") as refusal:
            LabelStudioServer(studio.url, dead).who()
        assert dead not in str(refusal.value)


def test_the_token_is_in_no_representation_and_no_error(studio):
    canary = "c0ffee" * 7
    server = LabelStudioServer(studio.url, canary)
    said = [repr(server), str(server)]
    with pytest.raises(BadInput) as refusal:
        server.who()
    chain: Any = refusal.value
    while chain is not None:
        said.append(f"{chain!r} {chain} {getattr(chain, 'body', '')}")
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    assert not [each for each in said if canary in each]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        (" https://ls.example.org/tools/ ", "https://ls.example.org/tools"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_written_in_one_way(url, found):
    assert normal_address(url) == found
    assert "/tools" not in LabelStudioServer(url, "x").address


@pytest.mark.parametrize(
    "url",
    ["ls.example.org", "ftp://ls", "http://", "http://ls:port", "http://ada:secret@ls", "http://ls/?token=secret", "http://ls/#secret", ""],
)
def test_an_address_with_secrets_or_without_sense_is_refused_and_not_repeated(url):
    with pytest.raises(BadInput) as refusal:
        normal_address(url)
    assert "secret" not in str(refusal.value)
