"""The harness of all tests: real processes, plain HTTP, and workloads.

It imports dte only to run it. `scripts/bench` and the programs in `torture` use it as well.
"""
