"""Random input for dte: formulas against Python's own evaluation, and HTTP against real processes.

`scripts/fuzz --help` tells how to run it. Every input follows from a seed and its number alone, so
whatever is found can be tried again.
"""
