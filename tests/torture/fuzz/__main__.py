"""Feeds dte with random input. See `scripts/fuzz --help`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from torture import runner
from torture.fuzz import blocks, contract, http
from torture.fuzz.replay import replay_parser, replay_script
from torture.fuzz.summary import (
    ALL,
    CONTRACT,
    HTTP,
    PARSER,
    Summary,
    of_contract,
    of_http,
    of_parser,
)
from torture.runner import Progress

HELP = """\
Feed dte with random input, and look for what it should not do.

parser    Texts go through the parser, and the operations through a worker's arithmetic, in any
          order. Python's own evaluation says what is right: the same number bit for bit, or refused
          by both.
http      Scripts of requests, good and bad, and bytes that are no HTTP go to a master and two
          workers in processes of their own. They must stay up, answer in the form of each
          route, never with an internal error, and do known formulas and calls meanwhile.
contract  Requests that a master's OpenAPI document allows, and some that it does not, go to such
          processes. Each reply must be one that the document names, and fit its schema.

Without a name, all are done.
"""
EXAMPLES = """\
  scripts/fuzz                                 a million texts and 22,000 requests, three minutes
  scripts/fuzz --inputs 50000 parser           a shorter one
  scripts/fuzz --seed 7 http                   the same requests each time
  scripts/fuzz --seed 7 --input 123 parser     input 123 of seed 7 alone, as a finding names it
  scripts/fuzz --seed 7 --input 45 http        script 45 of seed 7, with what is sent and replied
  scripts/fuzz --contract-requests 50000 contract   a longer one
"""


def main() -> int:
    arguments = read_arguments()
    seed: int = arguments.seed
    if arguments.input is not None:
        replay = replay_parser if arguments.what == PARSER else replay_script
        return replay(seed, arguments.input)
    print(f"seed {seed}", file=sys.stderr)
    summary = Summary(seed)
    progress = Progress("fuzz")
    if arguments.what in (None, PARSER):
        inputs = arguments.inputs
        tell = progress.of(inputs, "texts")
        tally = blocks.run(seed, inputs, processes=arguments.processes, progress=tell)
        summary.parts[PARSER] = of_parser(seed, tally)
    if arguments.what in (None, HTTP):
        played = http.run(
            seed, arguments.requests, progress=progress.of(arguments.requests, "requests")
        )
        summary.parts[HTTP] = of_http(seed, played)
    if arguments.what in (None, CONTRACT):
        requests = arguments.contract_requests
        judged = contract.run(seed, requests, progress=progress.of(requests, "requests, at most"))
        summary.parts[CONTRACT] = of_contract(judged)
    progress.end()
    return runner.conclude(summary, arguments.json)


def read_arguments() -> Namespace:
    options = runner.parser("fuzz", HELP, EXAMPLES, "there is a difference or a fault")
    options.add_argument("what", nargs="?", choices=ALL, help="one of them alone")
    for name, default, what in (
        ("--inputs", 1_000_000, "texts for the parser"),
        ("--requests", 20_000, "requests"),
        ("--contract-requests", 2_000, "requests that are judged by the document, at most"),
        ("--processes", len(os.sched_getaffinity(0)), "processes for the parser"),
    ):
        options.add_argument(
            name, type=runner.count, default=default, metavar="N", help=f"{what} [{default:,}]"
        )
    runner.add_seed(options, "the seed of all input")
    options.add_argument(
        "--input",
        type=runner.number,
        metavar="K",
        help="play input K of the seed alone, and print everything about it",
    )
    arguments = options.parse_args()
    if arguments.input is not None and arguments.what not in (PARSER, HTTP):
        options.error("--input K needs a name: parser or http")
    return arguments


if __name__ == "__main__":
    sys.exit(runner.run(main))
