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
job and for every effect: no acknowledged job may be lost, no submission may have made two jobs,
and each job must have the right answer each time it is asked for. Some formulas call handlers that
return or raise objects that misbehave: each of these jobs must fail with an error of one line, and
no other job may suffer.

Other jobs are graphs of calls that leave marks in a file when they begin and when they end. They
have references, retries, delays and moments before which they do not begin. Some are cancelled,
some run again; requests for them are repeated with their key, also at the same time. A call may
begin again only if something happened to its worker that explains it: it was killed, ended, stopped
for longer than a lease, or cut off. A pause or a crash of the master explains nothing. No call may
begin before what it waits for, after a confirmed cancel, or once its end was acknowledged. A
webhook must report each end to a receiver that fails, is slow, and is down for a while.

The processes are real, and talk through proxies that delay, slow down, reset, cut, fall silent,
lose a reply after the request was done, or cut it short. One of the workers pulls. Processes of
handlers are killed as well. Some clients use dte.AsyncClient, others plain HTTP. After the last
kill all faults end, and every acknowledged job must end. Then each slot gets a call, and
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
    "a job was lost, doubled, wrong or changed, or anything else went wrong: the folder with the "
    "journal and all logs is then kept, and its path printed; chaos.log in it lists what was done "
    "and when"
)


def main() -> int:
    options = runner.parser("chaos", HELP, EXAMPLES, WRONG)
    options.add_argument(
        "--kills",
        metavar="N",
        type=runner.number,
        default=KILLS,
        help="number of kills (SIGKILL) of master and workers together (default: %(default)s)",
    )
    options.add_argument(
        "--seconds",
        metavar="S",
        type=runner.seconds,
        help=f"duration of the run (default: {SECONDS_A_KILL:g} for each kill, "
        f"{SECONDS_A_KILL_OF_FEW:g} if there are fewer than {FEW} kills)",
    )
    options.add_argument(
        "--stops",
        metavar="N",
        type=runner.number,
        help="number of stops (SIGSTOP) of master and workers together (default: half as many)",
    )
    runner.add_seed(options, "the seed of everything random")
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
