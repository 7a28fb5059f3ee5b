"""Configuration from defaults, a file, --set and options of a command."""

from __future__ import annotations

import json

import pytest

from app.cli.options import configured
from engine.config import StageConfig
from engine.errors import BadInput, UsageError


class Inner(StageConfig):
    share: float = 0.1


class Fake(StageConfig):
    seed: int = 0
    name: str = "a"
    sizes: tuple[int, ...] = (1,)
    inner: Inner = Inner()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"seed": 5, "name": "of the file"}))
    return path


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        (None, {}, Fake()),
        (["seed=3"], {}, Fake(seed=3)),
        (["name=plain words"], {}, Fake(name="plain words")),
        (['name="quoted"'], {}, Fake(name="quoted")),
        (["name=a=b"], {}, Fake(name="a=b")),
        (["sizes=[2, 3]"], {}, Fake(sizes=(2, 3))),
        (["inner.share=0.5"], {}, Fake(inner=Inner(share=0.5))),
        (['inner={"share": 0.5}'], {}, Fake(inner=Inner(share=0.5))),
        (None, {"inner.share": 0.5}, Fake(inner=Inner(share=0.5))),
        (["name=x"], {"seed": 9}, Fake(name="x", seed=9)),
        (None, {"seed": None}, Fake()),
    ],
)
def test_values_reach_the_configuration(settings, options, expected):
    assert configured(Fake, None, settings, **options) == expected


def test_set_and_options_go_over_the_file(file):
    assert configured(Fake, file, ["seed=6"]) == Fake(seed=6, name="of the file")
    assert configured(Fake, file, None, name="of the option") == Fake(seed=5, name="of the option")


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (["sede=3"], {}, "Did you mean 'seed'"),
        (["seed=many"], {}, "seed = 'many'"),
        (["seed"], {}, "KEY=VALUE"),
        (["=3"], {}, "KEY=VALUE"),
        (["seed=1", "seed=2"], {}, "stands twice"),
        (["seed=1"], {"seed": 2}, "by an option of its own"),
        (["seed.x=1", "name=b"], {}, "seed"),
        (["name=a", "name.x=1"], {}, "reaches into name"),
    ],
)
def test_wrong_setting_is_wrong_use(settings, options, message):
    with pytest.raises(UsageError, match=message):
        configured(Fake, None, settings, **options)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "not JSON"), (b"[]", "holds a list"), (b"\xff", "not JSON"), (None, "cannot be read")]
)
def test_wrong_file_is_bad_input_and_named(tmp_path, content, message):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=f"mine.json.*{message}"):
        configured(Fake, path, None)


def test_what_lies_beneath_gives_way_to_the_file_and_to_set(tmp_path):
    from engine.stages.finetune import FinetuneConfig

    (tmp_path / "c.json").write_text('{"detector": {"heads": 4}, "name": "mine"}')
    beneath = {"detector.heads": 2, "detector.points": 2, "detector.dimension": 64}
    found = configured(FinetuneConfig, tmp_path / "c.json", ["detector.points=1"], beneath=beneath)
    assert (found.name, found.detector.heads, found.detector.points, found.detector.dimension) == ("mine", 4, 1, 64)
    assert found.detector.model_fields_set == {"heads", "points", "dimension"}
