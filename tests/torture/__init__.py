"""Long tests: programs that harm dte at random, or on purpose, and account for what came of it.

Each has a command line of its own in `scripts`, and short runs among the tests.
"""
