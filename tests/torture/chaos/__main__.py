"""Kills dte at random and counts what became of its jobs. See `scripts/chaos --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from torture.chaos.report import Report
from torture.chaos.run import Run

KILLS = 200
FEW = 20
SECONDS_A_KILL, SECONDS_A_KILL_OF_FEW = 3.0, 1.5
ANOMALY, TERMINATED, INTERRUPTED = 1, 143, 130

HELP = """\
Run a master with a journal and 3 workers under load, kill -9 and stop any of them at random,
disturb the network between all of them, start again what was killed, and then account for every
formula: none that was acknowledged may be lost, none may have become two jobs, and each must have
Python's own answer, always the same.

The processes are real, and talk through proxies that delay, slow down, reset, cut, fall silent,
lose a reply after the request was done, or tear it. Clients are dte.AsyncClient and others that
know nothing but HTTP and repeat a request with the same Idempotency-Key. When the last kill is
done, everything is healed; every acknowledged job must end; then all is ended with SIGTERM, the
journal is checked, and a last master is asked about every job.
"""
EXAMPLES = """\
examples:
  scripts/chaos                  200 kills in 10 minutes
  scripts/chaos --kills 10       a short run, in about 20 s
  scripts/chaos --seed 7         the same kills and faults again; as time is real, not the same
                                 history to the last byte
  scripts/chaos --json           the figures and everything that went wrong, for programs

exit codes: 0 nothing is lost, doubled, wrong or changed, and nothing else went wrong; 1 something
is or did: the folder with the journal and all logs is then kept, and its name told; chaos.log in
it says what was done when; 2 the command is wrong; 130 Ctrl-C; 143 SIGTERM.
"""


def main() -> int:
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="dte-chaos-"))
    seed: int = arguments.seed
    print(f"chaos: seed {seed}, in {folder}", file=sys.stderr)
    try:
        report = asyncio.run(_run(Run(folder, arguments.kills, arguments.seconds, seed)))
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        return INTERRUPTED
    except asyncio.CancelledError:
        shutil.rmtree(folder)
        return TERMINATED
    except BaseException:
        print(f"chaos: it is all kept in {folder}", file=sys.stderr)
        raise
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print(report.table())
    if report.good:
        shutil.rmtree(folder)
        print(f"chaos: all is well, after {report.took_s:.0f} s with seed {seed}", file=sys.stderr)
        return 0
    print(
        f"chaos: SOMETHING IS WRONG; journal and logs are kept in {folder}\n"
        f"chaos: to do the same again, but for its timing: "
        f"scripts/chaos --kills {arguments.kills} --seconds {arguments.seconds:g} --seed {seed}",
        file=sys.stderr,
    )
    return ANOMALY


async def _run(run: Run) -> Report:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await run.run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kills",
        metavar="N",
        type=int,
        default=KILLS,
        help="how many kill -9, of master and workers together (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        help=f"in how much time (default: {SECONDS_A_KILL:g} a kill, "
        f"{SECONDS_A_KILL_OF_FEW:g} a kill if there are fewer than {FEW})",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, help="of all that is random (default: another each time)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if arguments.kills < 0:
        parser.error("--kills: a number from 0 is expected")
    if arguments.seconds is None:
        each_s = SECONDS_A_KILL if arguments.kills >= FEW else SECONDS_A_KILL_OF_FEW
        arguments.seconds = max(1, arguments.kills) * each_s
    if not 0 < arguments.seconds < float("inf"):
        parser.error("--seconds: a number above 0 is expected")
    if arguments.seed is None:
        arguments.seed = SystemRandom().randrange(10**6)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
