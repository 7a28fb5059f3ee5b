"""What ``pretrain`` takes from its options before anything is trained."""

import pytest


@pytest.fixture
def workspace(tilehawk, tmp_path):
    assert tilehawk("init", tmp_path / "workspace").code == 0
    return tmp_path / "workspace"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--set", "detector.backbone_weights=none"), 2, "would stay random for good"),
        (("--preset", "small", "--set", "freeze_backbone=true"), 2, "would stay random for good"),
        (("--preset", "small"), 4, "no tile of the training ground"),
        (("--preset", "small", "--from", "foreign"), 3, "no pretrain model named 'foreign'"),
        (("--from", "foreign", "--set", "start=other"), 2, "start is given by --set and by an option of its own"),
    ],
)
def test_a_backbone_of_random_weights_learns_or_is_refused(tilehawk, workspace, options, code, message):
    typed = tilehawk("pretrain", *options, "--workspace", workspace)
    assert (typed.code, message in typed.err) == (code, True), typed.err
