"""The command line: one command, `dte`."""
