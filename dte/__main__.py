"""`python -m dte` is `dte`."""

from dte.cli import entry

if __name__ == "__main__":
    entry()
