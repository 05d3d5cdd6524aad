"""Makes `python -m dte` the command `dte`."""

from dte.cli.main import entry

if __name__ == "__main__":
    entry()
