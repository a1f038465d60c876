"""A path holds the old content or the new one."""

import pytest

from dsrl.storage.atomic import atomic


def content(path):
    """What is at a path, and in the files of a folder."""
    return {file.name: file.read_text() for file in path.iterdir()} if path.is_dir() else path.read_text()


def write(path, folder, text):
    if folder:
        path.mkdir()
        (path / "file").write_text(text)
    else:
        path.write_text(text)


@pytest.mark.parametrize("before", [None, "file", "folder"])
@pytest.mark.parametrize("after", ["file", "folder"])
def test_the_new_content_takes_the_place_of_the_old(before, after, tmp_path):
    path = tmp_path / "sub" / "x"
    if before:
        path.parent.mkdir()
        write(path, before == "folder", "old")
    with atomic(path) as partial:
        write(partial, after == "folder", "new")
        if before:
            assert content(path) == ({"file": "old"} if before == "folder" else "old")
        else:
            assert not path.exists()
    assert content(path) == ({"file": "new"} if after == "folder" else "new")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True])
def test_after_an_error_the_old_content_is_there_and_nothing_else(folder, tmp_path):
    path = tmp_path / "x"
    write(path, folder, "old")
    with pytest.raises(ZeroDivisionError), atomic(path) as partial:
        write(partial, folder, "half")
        raise ZeroDivisionError
    assert content(path) == ({"file": "old"} if folder else "old")
    assert list(tmp_path.iterdir()) == [path]


def test_what_an_earlier_kill_left_is_no_part_of_it(tmp_path):
    (tmp_path / ".x.partial").mkdir()
    (tmp_path / ".x.partial" / "left").touch()
    with atomic(tmp_path / "x") as partial:
        write(partial, True, "new")
    assert content(tmp_path / "x") == {"file": "new"}
