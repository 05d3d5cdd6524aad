"""The current folder: its files never take the place of modules that dte imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import processes as programs
from harness.cluster import MasterClient
from harness.machine import free_port
from harness.processes import Processes

from end_to_end.hostile import fill

COMMAND = str(Path(sys.executable).with_name("dte"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file for each module that dte imports, and a module of handlers."""
    fill(tmp_path)
    return tmp_path


def test_run_and_its_handlers_work_beside_files_of_all_names(folder: Path) -> None:
    done = programs.run(
        *(COMMAND, "run", "--workers", "1", "--handlers", "mine", "1+own.double(20+1)"),
        folder=folder,
    )
    assert (done.stdout, done.stderr) == ("1+own.double(20+1) = 43\n", "")


def test_workers_and_clients_work_beside_files_of_all_names(
    folder: Path, processes: Processes
) -> None:
    port = free_port()
    processes.folder = folder
    processes.start_master(port, program=[COMMAND])
    processes.start_worker(port, "w", "--handlers", "mine", program=[COMMAND])
    master = f"http://127.0.0.1:{port}"
    done = programs.run(
        COMMAND, "call", "own.double", "21", "--master", master, "--timeout", "20", folder=folder
    )
    assert (done.stdout, done.stderr) == ("42\n", "")
    client = MasterClient(port)
    assert client.compute("1+own.double(1)") == 3
    # What handlers start finds Python's usual environment.
    for handler, result in (("own.environment", []), ("own.first_folder", "''")):
        job = client.value("POST", "/jobs", {"handler": handler})["job_id"]
        assert client.finished(job)["answer"] == result


@pytest.mark.parametrize("name", ["queue", "random", "email", "typing", "logging", "click"])
def test_python_m_dte_does_not_import_the_current_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text('raise RuntimeError("imported from here")\n')
    done = programs.run(sys.executable, "-m", "dte", "run", "--workers=1", "1+1", folder=tmp_path)
    assert (done.stdout, done.stderr) == ("1+1 = 2\n", "")


@pytest.mark.parametrize("path", [".", ":/nowhere", "{folder}"])
def test_a_python_path_with_the_current_folder_has_it_last(tmp_path: Path, path: str) -> None:
    """An empty part of it, often left by an empty variable, means the current folder."""
    (tmp_path / "queue.py").write_text('raise RuntimeError("imported from here")\n')
    (tmp_path / "mine.py").write_text(
        "import os, dte\n"
        '@dte.handler("length")\n'
        'def length(): return len(os.environ["PYTHONPATH"])\n'
    )
    python_path = path.format(folder=tmp_path)
    done = programs.run(
        *(COMMAND, "run", "--workers=1", "--handlers=mine", "length()"),
        folder=tmp_path,
        PYTHONPATH=python_path,
    )
    assert (done.stdout, done.stderr) == (f"length() = {len(python_path)}\n", "")


def test_handlers_of_python_path_win_over_the_current_folder(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in (tmp_path, elsewhere):
        (folder / "mine.py").write_text(
            f'import dte\n@dte.handler("depth")\ndef depth(): return {len(folder.parts)}\n'
        )
    done = programs.run(
        *(COMMAND, "run", "--workers=1", "--handlers=mine", "depth()"),
        folder=tmp_path,
        PYTHONPATH=str(elsewhere),
        PYTHONSAFEPATH="1",
    )
    assert (done.stdout, done.stderr) == (f"depth() = {len(elsewhere.parts)}\n", "")


def test_a_folder_of_python_path_that_hides_pythons_modules_is_named(tmp_path: Path) -> None:
    lib, here = tmp_path / "lib", tmp_path / "here"
    lib.mkdir()
    here.mkdir()
    (lib / "random.py").write_text("x = 1\n")
    done = programs.run(COMMAND, "run", "1+1", folder=here, PYTHONPATH=str(lib))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{lib / 'random.py'} has the name of Python's own module random" in done.stderr
    assert "PYTHONPATH" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("source", ["x = 1\n", 'raise RuntimeError("mine")\n'])
@pytest.mark.parametrize("name", ["queue", "tornado", "msgspec", "click", "dotenv"])
def test_a_file_of_python_path_that_hides_what_dte_needs_is_named(
    tmp_path: Path, name: str, source: str
) -> None:
    lib, here = tmp_path / "lib", tmp_path / "here"
    lib.mkdir()
    here.mkdir()
    (lib / f"{name}.py").write_text(source)
    done = programs.run(COMMAND, "run", "1+1", folder=here, PYTHONPATH=str(lib))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{lib / name}.py has the name of" in done.stderr
    assert "rename the file, or change PYTHONPATH" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_copy_that_is_not_installed_runs_in_the_folder_that_holds_it(tmp_path: Path) -> None:
    """The requirements are there, but dte is found in the current folder alone."""
    root = Path(programs.__file__).parents[2]
    (tmp_path / "dte").symlink_to(root / "dte")
    (tmp_path / "queue.py").write_text('raise RuntimeError("imported from here")\n')
    # The path entry that makes an editable installation is left out.
    hide = f"import sys; sys.path.remove({str(root)!r})"
    (tmp_path / "sitecustomize.py").write_text(hide)
    done = programs.run(
        *(sys.executable, "-m", "dte", "run", "--workers=1", "1+1"),
        folder=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert (done.stdout, done.stderr) == ("1+1 = 2\n", "")
