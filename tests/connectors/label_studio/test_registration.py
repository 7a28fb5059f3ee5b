"""The backend entered in a project, request by request."""

from __future__ import annotations

import base64
import json
import re

import httpx
import pytest

from connectors.label_studio.client import LabelStudioServer
from connectors.label_studio.registration import TITLE, backend_answers, register_backend
from engine.errors import BadInput, TilehawkError

ADDRESS = "https://tiles.example.org/label-studio"
TOKEN = "f" * 40


class Studio:
    """Keeps backends, webhooks and the project's model version as Label Studio does."""

    def __init__(self):
        self.backends, self.project, self.refusal, self.log = [], {"id": 7}, None, []
        self.webhooks = [{"id": 5, "organization": 1, "url": "https://others.example.org/webhook"}]

    def __call__(self, request):
        body = json.loads(request.content or b"null")
        self.log.append((request.method, request.url.path))
        if request.url.path == "/api/ml/":
            return self.listed(self.backends) if request.method == "GET" else self.made(body)
        if found := re.fullmatch(r"/api/ml/(\d+)", request.url.path):
            self.backends[int(found[1])].update(body)
            return httpx.Response(200, json=self.backends[int(found[1])])
        if request.url.path == "/api/webhooks/":
            return self.listed(self.webhooks)
        if found := re.fullmatch(r"/api/webhooks/(\d+)/", request.url.path):
            webhook = next(each for each in self.webhooks if each["id"] == int(found[1]))
            webhook.update(body)
            return httpx.Response(200, json=webhook)
        if request.url.path == "/api/projects/7/":
            self.project.update(body)
            return httpx.Response(200, json=self.project)
        return httpx.Response(404, json={"detail": request.url.path})

    def listed(self, found):
        return httpx.Response(200, json=found)

    def made(self, body):
        if self.refusal:
            return httpx.Response(self.refusal[0], json=self.refusal[1])
        self.backends.append({**body, "id": len(self.backends)})
        self.webhooks.append({"id": 6, "organization": 1, "url": f"{body['url']}/webhook", "send_for_all_actions": True})
        return httpx.Response(201, json=self.backends[-1])


@pytest.fixture
def studio():
    return Studio()


@pytest.fixture
def enter(studio):
    def enter():
        server = LabelStudioServer("http://ls.example.org", TOKEN, transport=httpx.MockTransport(studio), pause=lambda _: None)
        return register_backend(server, 7, ADDRESS, "tilehawk", "s3cret")

    return enter


def test_it_is_entered_interactive_and_shown_and_its_webhook_has_the_proof(studio, enter):
    assert enter()
    [made] = studio.backends
    assert made["is_interactive"]
    assert (made["url"], made["title"], made["auth_method"]) == (ADDRESS, TITLE, "BASIC_AUTH")
    assert (made["basic_auth_user"], made["basic_auth_pass"]) == ("tilehawk", "s3cret")
    assert studio.project["model_version"] == TITLE
    theirs, ours = studio.webhooks
    assert ours["headers"] == {"Authorization": "Basic " + base64.b64encode(b"tilehawk:s3cret").decode()}
    assert (ours["send_payload"], ours["send_for_all_actions"]) == (False, False)
    assert "headers" not in theirs


def test_the_same_again_leaves_one(studio, enter):
    assert [enter(), enter()] == [True, False]
    assert len(studio.backends) == 1


def test_other_backends_stay_as_they_are(studio, enter):
    other = {"id": 0, "url": "http://other:9090", "title": "theirs", "project": 7}
    studio.backends.append(dict(other))
    assert enter()
    assert studio.backends[0] == other


def test_a_forbidden_network_is_said_to_be_one_and_the_token_is_not_blamed(studio, enter):
    studio.refusal = (403, {"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"})
    with pytest.raises(BadInput, match=r"private network.*USER_ADDITIONAL_BANNED_SUBNETS") as refused:
        enter()
    assert "token" not in str(refused.value)


@pytest.mark.guarantee("G39")
def test_a_backend_that_is_not_reached_is_told_of_without_its_secret(studio, enter):
    studio.refusal = (400, {"validation_errors": {"non_field_errors": ["Can't connect to ML backend, health check failed"]}})
    with pytest.raises(TilehawkError, match="health check failed") as refused:
        enter()
    assert "s3cret" not in str(refused.value)
    assert "model_version" not in studio.project


@pytest.mark.parametrize(("state", "answers"), [("CO", True), ("DI", False), ("ER", False)])
def test_whether_it_is_reached_is_what_label_studio_says(studio, enter, state, answers):
    server = LabelStudioServer("http://ls.example.org", TOKEN, transport=httpx.MockTransport(studio), pause=lambda _: None)
    studio.backends.append({"id": 0, "url": "http://other:9090", "state": "CO", "project": 7})
    assert backend_answers(server, 7, ADDRESS) is None
    enter()
    studio.backends[1]["state"] = state
    assert backend_answers(server, 7, ADDRESS) is answers
