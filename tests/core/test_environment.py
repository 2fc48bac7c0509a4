"""The set-up's decisions, without installing anything: what is refused, and what is unpacked."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path, PurePosixPath

import environment
import installing
import pytest
from environment import ensure_environment
from installing import Environment, SetupError, unpack_folder


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)


def comfyui(folder: Path, version: str) -> Path:
    (folder / "main.py").touch()
    (folder / "requirements.txt").write_text("torch\n", encoding="utf-8")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    return folder


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_path_that_is_no_comfyui_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SetupError, match="not a ComfyUI folder"):
        ensure_environment()


def test_an_old_comfyui_is_refused_with_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui(tmp_path, "0.9.12")))
    with pytest.raises(SetupError, match=r"version 0\.9\.12; 0\.30\.0 or newer"):
        ensure_environment()


def test_a_python_without_a_comfyui_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    with pytest.raises(SetupError, match="COMFYUI_PATH is not"):
        ensure_environment()


def test_the_users_own_python_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui(tmp_path, "0.31.0")))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    found = ensure_environment()
    assert (found.python, found.comfyui) == (Path(sys.executable), tmp_path.resolve())


def test_what_the_users_own_python_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui(tmp_path, "0.31.0")))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    monkeypatch.setattr(environment, "TOOLS", ("no-such-package[extra]==1.0",))
    with pytest.raises(SetupError, match=r'pip install "no-such-package\[extra\]==1\.0"$'):
        ensure_environment()


def test_a_stamp_of_other_pins_or_half_a_stamp_means_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "STAMP", tmp_path / "stamp.json")
    there = Environment(Path(sys.executable), comfyui(tmp_path, "0.30.0"))
    assert not environment._is_ready(there, "pins")
    for content, ready in (('{"pins": "pins"}', True), ('{"pins": "others"}', False), ('{"pi', False)):
        environment.STAMP.write_text(content, encoding="utf-8")
        assert environment._is_ready(there, "pins") is ready


def test_what_runs_in_an_outdated_environment_does_not_pull_it_from_under_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "FOLDER", tmp_path)
    monkeypatch.setattr(environment, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(environment, "VENV", Path(sys.prefix))
    with pytest.raises(SetupError, match=r"out of date.*with the Python that made it"):
        ensure_environment()
    assert Path(sys.executable).is_file()


def test_only_the_wanted_folder_is_unpacked(tmp_path: Path) -> None:
    packed = archive(tmp_path / "a.tar.gz", {"p/vendor/C/main.py": b"1", "p/vendor/C/x/y.py": b"2", "p/setup.py": b"3"})
    unpack_folder(packed, PurePosixPath("p/vendor/C"), tmp_path / "out")
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"main.py", "x/y.py"}


@pytest.mark.parametrize("name", ["p/../../evil.py", "p/a/../../../evil.py", "p/C:evil.py", "p/a\\..\\evil.py"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    packed = archive(tmp_path / "a.tar.gz", {name: b"evil"})
    with pytest.raises(SetupError, match="unsafe path"):
        unpack_folder(packed, PurePosixPath("p"), tmp_path / "out")
    assert not list(tmp_path.rglob("*evil.py"))


def test_links_are_not_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("p/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    unpack_folder(tmp_path / "a.tar.gz", PurePosixPath("p"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_command_that_fails_shows_the_end_of_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "LOG", tmp_path / "setup.log")
    with pytest.raises(SetupError, match=r"(?s)pip could not.*exit code 4.*no route to host.*start the script again"):
        installing.run_logged([sys.executable, "-c", "print('no route to host'); raise SystemExit(4)"], "pip could not")
