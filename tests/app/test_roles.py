"""Roles and their rules."""

from __future__ import annotations

import re

import pytest

from app.roles import PAGES, ROLES, ROUTES, may, needed_for, refusal, whoever


def test_each_role_may_do_what_those_before_it_may():
    assert [[may(role, needs) for needs in ROLES] for role in ROLES] == [[True, False, False], [True, True, False], [True, True, True]]


@pytest.mark.parametrize("role", [None, "", "Engineer", "root"])
def test_what_is_no_role_may_nothing(role):
    assert not any(may(role, needs) for needs in ROLES)


@pytest.mark.parametrize(
    ("path", "needs"),
    [
        ("/", "annotator"),
        ("/review", "annotator"),
        ("/review/", "annotator"),
        ("/training", "engineer"),
        ("/training/run/loss.png", "engineer"),
        ("/downloads/labels/gpkg", "manager"),
        ("/downloads", None),
        ("/curve.png", "annotator"),
        ("/curvexpng", None),
        ("/gradio_api/upload", "engineer"),
        ("/gradio_api/queue/join", "annotator"),
        ("/tiles", None),
        ("/a-new-page", None),
        ("/x/tiles/1.png", None),
    ],
)
def test_path_finds_its_rule(path, needs):
    assert needed_for(path) == needs


def test_rules_name_roles_and_patterns():
    assert {*PAGES.values(), *ROUTES.values()} <= set(ROLES)
    assert all(re.compile(pattern) for pattern in ROUTES)


def test_refusal_says_who_may_and_what_to_do():
    assert whoever("annotator") == "everybody"
    assert refusal("This", "engineer", "anna", "annotator")[0] == "This is for engineers; the account anna is an annotator"
    found, remedy = refusal("This", "manager", "anna", None)
    assert found == "This is for managers and engineers; the account anna is a stranger"
    assert "tilehawk users role anna manager" in remedy
