"""Law of the folder for compiled code: another source, another folder."""

from pathlib import Path

from shaping.kernels.compiled.jit import cache_folder, usable


def test_any_change_to_what_is_compiled_leads_to_another_folder(tmp_path: Path) -> None:
    # numba alone notices changes in the file of a function, not in those of the functions it calls.
    sources, constants = tmp_path / "compiled", tmp_path / "support.py"
    sources.mkdir()
    for path in (sources / "runs.py", sources / "strings.py", constants):
        path.write_text("X = 1\n")
    folders = [cache_folder(sources, constants, "")]
    for path in (sources / "strings.py", constants, sources / "new.py"):
        path.write_text("X = 2\n")
        folders.append(cache_folder(sources, constants, ""))
    assert len(set(folders)) == 4
    assert cache_folder(sources, constants, "") == folders[-1]
    assert folders[0].parent == sources / "__pycache__"


def test_the_users_choice_of_a_cache_is_kept(tmp_path: Path) -> None:
    folder = cache_folder(tmp_path, Path(__file__), str(tmp_path / "mine"))
    assert folder.parent == tmp_path / "mine"


def test_a_folder_that_others_may_write_holds_no_code_to_run(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    assert usable(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert not usable(folder)


def test_a_folder_that_cannot_be_made_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not usable(tmp_path / "file" / "kernels")
