"""The command `dte`, as a program and as `python -m dte`.

Python looks for modules first in the folder of the program, which is the current folder for
`python -m`. A file queue.py there would take the place of Python's own. So that folder is taken off
the path before anything else is imported.
"""

from __future__ import annotations

import os
import sys


def entry() -> None:
    """Run the command line."""
    _put_folders_last()
    try:
        from dte.cli.main import entry

        entry()
    except Exception as error:
        found = _instead_of_pythons()
        if found is None:
            raise
        name, file = found
        sys.stderr.write(
            f"dte: {type(error).__name__}: {error}\n{file} has the name of Python's own module "
            f"{name}, and PYTHONPATH has its folder: rename the file, or change PYTHONPATH\n"
        )
        sys.exit(2)


def _put_folders_last() -> None:
    """Take the folder of the program and the current one off the part of the path that is first.

    If PYTHONPATH names the current folder, it becomes the last one.
    """
    try:
        here = os.getcwd()
        wanted = {os.path.abspath(path) for path in _python_path()}
        program = os.path.dirname(os.path.realpath(sys.argv[0]))
    except OSError:  # The current folder has been deleted.
        here, wanted, program = "", set(), ""
    library = os.path.dirname(os.__file__)
    count = sys.path.index(library) if library in sys.path else 0
    first, rest = sys.path[:count], sys.path[count:]
    mine = [path for path in first if not path or os.path.realpath(path) in (here, program)]
    last = [path for path in mine if path in wanted]
    # If it is not installed, but run in the folder that holds it, that is needed.
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [path for path in first if path not in mine] + rest + last
    if home not in sys.path:
        sys.path.append(home)


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _instead_of_pythons() -> tuple[str, str] | None:
    """Return a module of a folder of PYTHONPATH that has the name of one of Python's own."""
    folders = tuple(os.path.join(os.path.abspath(path), "") for path in _python_path())
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if name in sys.stdlib_module_names and file.startswith(folders):
            return name, file
    return None


if __name__ == "__main__":
    entry()
