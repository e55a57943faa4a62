import os
from pathlib import Path

import pytest

from data_tools.files.atomic import sha256_of
from data_tools.files.directories import RECORD_NAME, atomic_directory, claim, read_record, remove_claimed


def make(path: Path, made_by: str | None = "maker", overwrite: bool = False, **texts: str) -> None:
    """Write a directory of texts."""
    with atomic_directory(path, made_by=made_by, overwrite=overwrite) as temporary:
        for name, text in texts.items():
            (temporary / name).write_text(text)


def names(path: Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))


def test_a_directory_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "directory"
    with atomic_directory(path) as temporary:
        (temporary / "a").write_text("1")
        assert not path.exists()
    assert names(tmp_path / "deep") == ["directory", "directory/a"]
    with pytest.raises(ValueError, match="directory: exists already"), atomic_directory(path):
        raise AssertionError("work was begun")


def test_a_directory_is_replaced_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "directory"
    make(path, a="1")
    with pytest.raises(ValueError, match="exists already"), atomic_directory(path, made_by="maker"):
        raise AssertionError("work was begun")
    with pytest.raises(RuntimeError), atomic_directory(path, made_by="maker", overwrite=True) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert names(tmp_path) == ["directory", f"directory/{RECORD_NAME}", "directory/a"]
    make(path, overwrite=True, b="2")
    assert names(tmp_path) == ["directory", f"directory/{RECORD_NAME}", "directory/b"]
    assert read_record(path, "maker") == {"b": sha256_of(path / "b")}


def test_only_what_the_command_made_is_replaced(tmp_path: Path) -> None:
    others, file = tmp_path / "others", tmp_path / "file"
    others.mkdir()
    (others / "a").write_text("1")
    file.write_text("1")
    for path, reason in ((others, "others: was not made by maker; only what"), (file, "file: exists already")):
        with pytest.raises(ValueError, match=reason), atomic_directory(path, made_by="maker", overwrite=True):
            raise AssertionError("work was begun")
    make(tmp_path / "made", made_by="another", a="1")
    with pytest.raises(ValueError, match="was not made by maker"):
        make(tmp_path / "made", overwrite=True, b="2")
    assert names(tmp_path) == ["file", "made", f"made/{RECORD_NAME}", "made/a", "others", "others/a"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("notes.txt", "holds notes.txt, not written by"), ("deep/notes", "holds deep/notes"), ("a", "holds a, changed")],
)
def test_files_of_the_user_are_kept(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / "directory"
    make(path, a="1", b="1")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("mine")
    before = names(path)
    with (
        pytest.raises(ValueError, match=f"directory: {reason}"),
        atomic_directory(path, made_by="maker", overwrite=True),
    ):
        raise AssertionError("work was begun")
    assert names(path) == before
    assert (path / name).read_text() == "mine"


def test_files_that_the_user_adds_during_the_work_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "directory"
    for overwrite, before in ((True, ["b"]), (False, [])):
        path.mkdir(exist_ok=True)
        for name in before:
            make(path, **{name: "1"})
        with (
            pytest.raises(ValueError, match="directory: (holds notes.txt|exists already)"),
            atomic_directory(path, made_by="maker", overwrite=overwrite) as temporary,
        ):
            (temporary / "a").write_text("2")
            (path / "notes.txt").write_text("mine")
        assert (path / "notes.txt").read_text() == "mine"
        assert names(tmp_path) == ["directory", *(f"directory/{name}" for name in names(path))]
        for file in path.iterdir():
            file.unlink()


def test_the_record_of_copied_files_is_not_copied(tmp_path: Path) -> None:
    make(tmp_path / "directory", **{RECORD_NAME: "another\tb\tc\n", "a": "1"})
    assert read_record(tmp_path / "directory", "another") == {}
    assert list(read_record(tmp_path / "directory", "maker")) == ["a"]


def test_a_link_to_a_directory_is_followed_and_kept(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "disk" / "directory"
    (tmp_path / "disk").mkdir()
    link.symlink_to("disk/directory")
    for text in ("1", "2"):
        make(link, overwrite=True, a=text)
        assert link.is_symlink()
        assert (target / "a").read_text() == text
    (target / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"link: holds notes\.txt"):
        make(link, overwrite=True, a="3")
    assert (target / "notes.txt").read_text() == "mine"


def test_a_mount_point_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    with pytest.raises(ValueError, match="is a mount point"), atomic_directory(tmp_path):
        raise AssertionError("work was begun")


def test_a_command_may_rewrite_only_names_it_has_claimed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    claim(tmp_path, ["table.md", "runs"], "maker")
    (tmp_path / "table.md").write_text("1")
    claim(tmp_path, ["table.md", "more.md"], "maker")
    claim(tmp_path, ["table.md"], "maker")
    assert list(read_record(tmp_path, "maker")) == ["table.md", "runs", "more.md"]
    assert len((tmp_path / RECORD_NAME).read_text().splitlines()) == 3
    with pytest.raises(ValueError, match=r"holds table\.md, not written by another"):
        claim(tmp_path, ["table.md"], "another")
    with pytest.raises(ValueError, match=r"holds notes\.txt, not written by maker"):
        claim(tmp_path, ["notes.txt"], "maker")
    claim(tmp_path / "new" / "deep", ["a"], "maker")
    assert (tmp_path / "new" / "deep").is_dir()


def test_a_claimed_directory_is_not_replaced(tmp_path: Path) -> None:
    claim(tmp_path / "directory", ["a"], "maker")
    (tmp_path / "directory" / "a").write_text("1")
    with pytest.raises(ValueError, match="holds a, changed"):
        make(tmp_path / "directory", overwrite=True, a="2")


def test_only_what_the_command_may_change_is_removed(tmp_path: Path) -> None:
    claim(tmp_path, ["table.md", "runs"], "maker")
    claim(tmp_path, ["others.md"], "another")
    for name in ("table.md", "others.md", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "runs").mkdir()
    remove_claimed(tmp_path, "maker")
    assert {path.name for path in tmp_path.iterdir()} == {"others.md", "notes.txt", "runs", RECORD_NAME}
