"""Ways to install dte: each works in the folder that holds the checkout, which is named dte."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from harness import processes as programs

from end_to_end.hostile import fill

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def install(folder: Path, *how: str) -> Path:
    """Copy the checkout to ``folder/dte``, install it with pip, and give the folder of programs.

    What it requires is found in the environment that runs the tests, so nothing is downloaded.
    """
    environment, checkout = folder / "environment", folder / "dte"
    shutil.copytree(ROOT / "dte", checkout / "dte", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, checkout)
    venv.create(environment, with_pip=False)
    sites = sysconfig.get_path("purelib", vars={"base": str(environment)})
    Path(sites, "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", str(environment / "bin" / "python"))
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed")
    done = programs.run(*pip, "install", *offline, *how, str(checkout), timeout_s=120)
    assert done.returncode == 0, done.stderr
    return environment / "bin"


@pytest.fixture(scope="module", params=["scripts/setup", "pip install -e", "pip install"])
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A folder that holds a checkout named dte, and the folder of an environment's programs."""
    folder = tmp_path_factory.mktemp("home")
    if request.param == "scripts/setup":  # It made the environment that runs the tests.
        (folder / "dte").symlink_to(ROOT)
        return folder, Path(sys.executable).parent
    how = ["--editable"] if request.param == "pip install -e" else []
    return folder, install(folder, *how)


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return programs.run(*map(str, command), folder=folder)


def test_a_program_beside_the_checkout_imports_the_package(installed: tuple[Path, Path]) -> None:
    folder, programs_of_it = installed
    (folder / "t.py").write_text("import dte\nprint(dte.Client.__name__, dte.handler.__name__)\n")
    for how in (["t.py"], ["-m", "t"], ["-c", "import t"]):
        done = run(programs_of_it / "python", *how, folder=folder)
        assert (done.stdout, done.stderr) == ("Client handler\n", "")


def test_the_command_works_beside_the_checkout(installed: tuple[Path, Path]) -> None:
    folder, programs_of_it = installed
    done = run(programs_of_it / "dte", "run", "--workers=1", "1+1", folder=folder)
    assert (done.stdout, done.stderr) == ("1+1 = 2\n", "")
    done = run(programs_of_it / "python", "-m", "dte", "--version", folder=folder)
    assert done.returncode == 0, done.stderr


def test_handlers_work_beside_files_of_all_names(
    installed: tuple[Path, Path], tmp_path: Path
) -> None:
    _, programs_of_it = installed
    fill(tmp_path)
    command = (programs_of_it / "dte", "run", "--workers=1", "--handlers=mine", "own.double(21)")
    done = run(*command, folder=tmp_path)
    assert (done.stdout, done.stderr) == ("own.double(21) = 42\n", "")
