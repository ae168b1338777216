from __future__ import annotations

import os
from pathlib import Path

import pytest

from vqcodec import folders
from vqcodec.errors import CodecError
from vqcodec.folders import Task

ENDINGS = {".png", ".jpg"}


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of folders, here."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("photos/b.png", "photos/a.JPG", "photos/notes.txt", "photos/.hidden.png"),
        *("photos/deep/c.png", "photos/deep/er/d.jpg", "photos/.thumbnails/e.png"),
        *("one.png", "odd[1].png", "scan.2024"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()


def placed(*names: str, recursive: bool = False) -> dict[str, str]:
    """Sources and the names of targets."""
    found = folders.find(names, ENDINGS, recursive=recursive)
    tasks = folders.place(found, "out", ".vqz", ENDINGS)
    assert len({task.source for task in tasks}) == len(tasks)
    return {task.source: task.target for task in tasks}


class TestFindAndPlace:
    def test_a_folder(self) -> None:
        expected = {"photos/a.JPG": "out/a.vqz", "photos/b.png": "out/b.vqz"}
        assert placed("photos") == placed("photos/") == expected

    def test_folders_are_mirrored(self) -> None:
        assert placed("photos", recursive=True) == {
            "photos/a.JPG": "out/a.vqz",
            "photos/b.png": "out/b.vqz",
            "photos/deep/c.png": "out/deep/c.vqz",
            "photos/deep/er/d.jpg": "out/deep/er/d.vqz",
        }

    def test_here(self) -> None:
        assert placed(".", recursive=True)["photos/deep/c.png"] == "out/photos/deep/c.vqz"

    def test_patterns(self) -> None:
        assert placed("photos/*.png", "o*.png") == {
            "photos/b.png": "out/b.vqz",
            "odd[1].png": "out/odd[1].vqz",
            "one.png": "out/one.vqz",
        }
        assert placed("photos/**/*.png") == {
            "photos/b.png": "out/b.vqz",
            "photos/deep/c.png": "out/c.vqz",
        }

    def test_a_file_whose_name_is_a_pattern(self) -> None:
        assert placed("odd[1].png") == {"odd[1].png": "out/odd[1].vqz"}

    def test_a_named_file_may_have_any_ending(self) -> None:
        assert placed("photos/notes.txt", "scan.2024", "photos/.hidden.png") == {
            "photos/notes.txt": "out/notes.txt.vqz",
            "scan.2024": "out/scan.2024.vqz",
            "photos/.hidden.png": "out/.hidden.vqz",
        }

    def test_each_once(self) -> None:
        assert placed("one.png", "./one.png", "photos", "photos/b.png") == {
            "one.png": "out/one.vqz",
            "photos/a.JPG": "out/a.vqz",
            "photos/b.png": "out/b.vqz",
        }

    def test_links_to_folders_are_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "photos" / "round").symlink_to("..")
        assert len(placed("photos", recursive=True)) == 4

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing.png", r"^missing\.png: no such file"),
            ("missing*.png", r"^missing\*\.png: matches no file"),
            ("-", "^standard input: is one input"),
            ("empty", "^empty: holds no file .* --recursive looks into"),
        ],
    )
    def test_names_that_mean_nothing(self, name: str, message: str) -> None:
        os.mkdir("empty")
        with pytest.raises(CodecError, match=message):
            folders.find([name], ENDINGS)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
    def test_a_folder_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "photos" / "deep").chmod(0)
        with pytest.raises(CodecError, match=r"photos/deep: cannot be read"):
            folders.find(["photos"], ENDINGS, recursive=True)


class TestFrames:
    @pytest.mark.parametrize(
        ("count", "first", "last"),
        [
            (1, "out/a.vqz", "out/a.vqz"),
            (2, "out/a-000.vqz", "out/a-001.vqz"),
            (1001, "out/a-0000.vqz", "out/a-1000.vqz"),
        ],
    )
    def test_names_sort(self, count: int, first: str, last: str) -> None:
        found = folders.frames(Task("a.gif", "out/a.vqz"), lambda source: count)
        assert (found[0].target, found[-1].target) == (first, last)
        frames = [each.frame for each in found]
        assert frames == ([None] if count == 1 else list(range(count)))

    def test_what_cannot_be_counted_is_left_to_the_work(self) -> None:
        def count(source: str) -> int:
            raise CodecError("is damaged")

        task = Task("a.gif", "a.vqz")
        assert folders.frames(task, count) == [task]


class TestCheck:
    def test_nothing_in_the_way(self) -> None:
        tasks = (Task("one.png", "out/one.vqz"), Task("photos/b.png", "out/b.vqz"))
        assert folders.check(tasks) == (tasks, (), ())

    def test_collisions_are_all_told(self) -> None:
        plan = folders.check(
            [
                Task("a.png", "out/a.vqz"),
                Task("a.jpg", "out/a.vqz"),
                Task("c.png", "out/c.vqz"),
                Task("b.png", "out/b.vqz"),
                Task("x/b.png", "out/../out/b.vqz"),
            ],
            force=True,
        )
        assert [str(each).partition(";")[0] for each in plan.refusals] == [
            "out/a.vqz: would be written of a.png and of a.jpg",
            "out/b.vqz: would be written of b.png and of x/b.png",
        ]

    def test_existing(self, tmp_path: Path) -> None:
        tasks = [Task(f"{name}.png", f"{name}.vqz") for name in "abc"]
        (tmp_path / "a.vqz").touch()
        (tmp_path / "b.vqz").touch()
        plan = folders.check(tasks)
        assert [str(each) for each in plan.refusals] == [
            "a.vqz: exists already, as does 1 more; "
            "use --force to replace them, --skip-existing to leave them"
        ]
        assert not folders.check(tasks, force=True).refusals
        plan = folders.check(tasks, skip_existing=True)
        assert plan == ((tasks[2],), tuple(tasks[:2]), ())

    def test_no_input_is_written_to(self, tmp_path: Path) -> None:
        for task in (Task("one.png", "./one.png"), Task("one.png", "link.png")):
            (tmp_path / "link.png").unlink(missing_ok=True)
            (tmp_path / "link.png").symlink_to("one.png")
            (refusal,) = folders.check([task], force=True).refusals
            assert "is the input itself" in str(refusal)
        tasks = [Task("photos/b.png", "one.png"), Task("one.png", "one.vqz")]
        (refusal,) = folders.check(tasks, force=True).refusals
        assert str(refusal).startswith("one.png: is itself one of the inputs")

    def test_targets_that_are_no_files(self, tmp_path: Path) -> None:
        (tmp_path / "out" / "one.vqz").mkdir(parents=True)
        (refusal,) = folders.check([Task("one.png", "out/one.vqz")], skip_existing=True).refusals
        assert str(refusal).startswith("out/one.vqz: is a directory")

    def test_folders_that_nobody_makes(self) -> None:
        tasks = [Task("one.png", "out/one.vqz")]
        (refusal,) = folders.check(tasks, make_folders=False).refusals
        assert str(refusal).startswith("out/one.vqz: cannot be written")
