"""The learning curve."""

from __future__ import annotations

import io

import pytest
from fastapi import FastAPI
from PIL import Image

from app.routes import curve
from engine.catalog.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # starlette's test client


def ask(workspace):
    from starlette.testclient import TestClient

    app = FastAPI()
    app.include_router(curve.router(workspace))
    return TestClient(app).get("/curve.png")


def test_curve_is_a_picture_once_a_round_is_evaluated(filled_workspace):
    assert Image.open(io.BytesIO(ask(filled_workspace).content)).format == "PNG"


def test_curve_of_a_new_workspace_is_not_found(tmp_path):
    with Workspace.create(tmp_path / "new") as workspace:
        assert ask(workspace).status_code == 404
