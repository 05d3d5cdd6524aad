"""Kills dte at random and counts what became of its jobs. See `scripts/chaos --help`."""

from __future__ import annotations

import asyncio
import sys

from torture import runner
from torture.chaos.nemesis import Amount
from torture.chaos.run import Run

KILLS, FEW = 200, 20
SECONDS_A_KILL, SECONDS_A_KILL_OF_FEW = 3.0, 1.5

HELP = """\
Run a master with a journal and 4 workers under load, kill -9 and stop any of them at random,
disturb the network between all of them, start again what was killed, and then account for every
job and for every effect: none that was acknowledged may be lost, none may have become two jobs,
and each must have its right answer, always the same. Some formulas call handlers that return and
raise what misbehaves: each of these must end with an error of one line that is its own, and harm
no other.

Other jobs are graphs of calls that leave marks in a file when they begin and when they end. They
have references, retries, delays and moments before which they do not begin. Some are cancelled,
some run again; requests for them are repeated with their key, also at the same time. A call may be
begun again only if its worker had a harm that explains it: it was killed, ended, stopped for
longer than a lease, or cut off. A pause or a crash of the master explains nothing. No call may
begin before what it waits for, after a confirmed cancel, or once its end was acknowledged. Each
end must be told to a receiver of webhooks that fails, is slow, and is down for a while.

The processes are real, and talk through proxies that delay, slow down, reset, cut, fall silent,
lose a reply after the request was done, or tear it. One of the workers pulls. Processes of handlers
are killed as well. Clients are dte.AsyncClient and others that know nothing but HTTP. When the last
kill is done, everything is healed; every acknowledged job must end. Then each slot gets a call, and
the workers with all their processes get SIGTERM: the calls must end within the grace. The journal
is checked, and a last master is asked about every job.
"""
EXAMPLES = """\
  scripts/chaos                  200 kills and 100 stops in 10 minutes
  scripts/chaos --kills 10       a short run, in about 40 s
  scripts/chaos --kills 0 --stops 20 --seconds 100
                                 nobody is killed; master and workers are stopped
  scripts/chaos --seed 7         the same kills and faults again; as time is real, not the same
                                 history to the last byte
  scripts/chaos --json           the figures and everything that went wrong, for programs
"""
WRONG = (
    "something is lost, doubled, wrong or changed, or went wrong otherwise: the folder with the "
    "journal and all logs is then kept, and its name told; chaos.log in it says what was done when"
)


def main() -> int:
    options = runner.parser("chaos", HELP, EXAMPLES, WRONG)
    options.add_argument(
        "--kills",
        metavar="N",
        type=runner.number,
        default=KILLS,
        help="how many kill -9, of master and workers together (default: %(default)s)",
    )
    options.add_argument(
        "--seconds",
        metavar="S",
        type=runner.seconds,
        help=f"in how much time (default: {SECONDS_A_KILL:g} a kill, "
        f"{SECONDS_A_KILL_OF_FEW:g} a kill if there are fewer than {FEW})",
    )
    options.add_argument(
        "--stops",
        metavar="N",
        type=runner.number,
        help="how many SIGSTOP, of master and workers together (default: half as many as kills)",
    )
    runner.add_seed(options, "of all that is random")
    arguments = options.parse_args()
    kills, seed = arguments.kills, arguments.seed
    each_s = SECONDS_A_KILL if kills >= FEW else SECONDS_A_KILL_OF_FEW
    seconds = arguments.seconds or max(1, kills) * each_s
    stops = kills // 2 if arguments.stops is None else arguments.stops
    amount = Amount(kills, stops, seconds)
    with runner.folder("chaos") as folder:
        print(f"chaos: seed {seed}, in {folder.path}", file=sys.stderr)
        report = asyncio.run(Run(folder.path, amount, seed).run())
        code = runner.conclude(report, arguments.json)
        folder.keep = not report.good
        if report.good:
            took = f"after {report.took_s:.0f} s with seed {seed}"
            print(f"chaos: all is well, {took}", file=sys.stderr)
        else:
            given = {"kills": kills, "stops": stops, "seconds": f"{seconds:g}", "seed": seed}
            command = runner.again("chaos", **given)
            print("chaos: SOMETHING IS WRONG", file=sys.stderr)
            print(f"chaos: to do the same again, but for its timing: {command}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(runner.run(main))
