"""The command `dte`, as a program and as `python -m dte`.

Python looks for modules first in the folder of the program, which is the current folder for
`python -m`. A file queue.py there would take the place of Python's own. So that folder is taken off
the path before anything else is imported.
"""

from __future__ import annotations

import os
import sys

REQUIRED = ("click", "dotenv", "msgspec", "pebble", "tornado")
"""Modules of other projects that dte imports; each is a package."""


def entry() -> None:
    """Run the command line."""
    _put_folders_last()
    try:
        from dte.cli.main import entry

        entry()
    except Exception as error:
        found = _hiding(error)
        if found is None:
            raise
        from dte.core.printable import printable

        file, name = found
        reason = printable(f"{type(error).__name__}: {error}")
        sys.stderr.write(
            f"dte: {reason}\n{printable(file)} has the name of {name}, and PYTHONPATH has its "
            "folder: rename the file, or change PYTHONPATH\n"
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
    sys.path[:] = [path for path in first if path not in mine] + rest + last
    # If it is not installed, but run in the folder that holds it, that is needed.
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if home not in sys.path:
        sys.path.append(home)


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _hiding(error: Exception) -> tuple[str, str] | None:
    """Return a file of PYTHONPATH that hides a module which dte needs, and the name of that."""
    folders = [os.path.abspath(path) for path in _python_path()]
    modules = [getattr(module, "__file__", None) for module in sys.modules.values()]
    files = {file for file in modules if file}
    trace = error.__traceback__  # A module that cannot be imported is not among them.
    while trace is not None:
        files.add(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    for file in sorted(files):
        for folder in folders:
            path = file.removeprefix(os.path.join(folder, ""))
            name = path.partition(os.sep)[0].removesuffix(".py")
            if path != file and name in sys.stdlib_module_names:
                return file, f"Python's own module {name}"
            if path == f"{name}.py" and name in REQUIRED:
                return file, f"the package {name}, which dte needs"
    return None


if __name__ == "__main__":
    entry()
