import pytest

from connectors.formats import coco, dota, voc
from connectors.formats.sniff import located
from connectors.formats.sources import LONGEST_JSON, LONGEST_TEXT, files_below, read_bytes
from engine.errors import BadInput


def sparse(path, size, head=b""):
    """A file of ``size`` bytes, of which the disk holds the head alone."""
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(size)
    return path


@pytest.mark.parametrize(
    ("read", "name", "most"), [(coco.read, "a.json", LONGEST_JSON), (voc.read, "a.xml", LONGEST_TEXT), (dota.read, "a.txt", LONGEST_TEXT)]
)
def test_a_file_that_is_too_long_is_refused_before_it_is_read(tmp_path, read, name, most):
    with pytest.raises(BadInput, match=rf"{name} has 1000000000000 bytes.*{most} bytes at most"):
        read(sparse(tmp_path / name, 10**12))


def test_the_format_of_a_long_text_is_known_by_its_beginning(tmp_path):
    file = sparse(tmp_path / "a.txt", 10**12, b"\n1 2 3 4 5 6 7 8 ship 0\n")
    assert located(file, None) == ("dota", file)
    assert located(tmp_path, None) == ("dota", tmp_path)


def test_a_file_that_states_no_size_is_read_to_the_cap(tmp_path):
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(BadInput, match="has 1001 bytes"):
        read_bytes(tmp_path / "endless", "a label file", 1000)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match="gone cannot be read"):
        files_below(tmp_path / "gone", {".txt"})
