"""A short run of `scripts/chaos`, and what it is made of."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from random import Random

from harness.machine import state_of
from harness.processes import run_module, until
from torture.chaos.nodes import Node
from torture.chaos.plans import Step, calm, plan_clock, plan_faults, plan_kills, plan_stops
from torture.chaos.proxy import Fault

RUN_TIMEOUT_S = 150.0


def test_ten_kills_lose_double_repeat_and_change_nothing() -> None:
    options = ("--kills", "10", "--seconds", "13", "--json")
    ran = run_module("torture.chaos", *options, timeout_s=RUN_TIMEOUT_S)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    assert sum(report["kills"].values()) == 10
    assert report["counts"]["answered"] > 100
    assert report["counts"]["hostile"] > 0
    assert report["clock_settings"] > 0
    assert sum(report["stops"].values()) == 5
    counts = report["counts"]
    assert counts["effects_begun"] >= counts["effects_ended"] > 5
    assert counts["effects_acknowledged"] > 5
    assert counts["told"] > 0


def test_a_plan_kills_as_often_as_wanted_and_the_master_most_often() -> None:
    steps = plan_kills(200, 600.0, 3, Random(1))
    killed = Counter(step.node for step in steps)
    assert sum(killed.values()) == 200
    assert set(killed) == {0, 1, 2, 3}
    assert killed[0] == max(killed.values())
    assert [step.at_s for step in steps] == sorted(step.at_s for step in steps)


def test_a_plan_is_the_same_for_the_same_seed() -> None:
    def plan(seed: int) -> list[Step]:
        randoms = Random(seed)
        return [
            *plan_kills(10, 20.0, 3, randoms),
            *plan_stops(5, 20.0, 3, randoms),
            *plan_faults(20.0, randoms),
            *plan_clock(20.0, randoms),
        ]

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_stops_and_faults_are_over_when_the_time_is() -> None:
    stops, faults = plan_stops(30, 60.0, 3, Random(1)), plan_faults(600.0, Random(1))
    assert max(step.at_s + step.length_s for step in stops) <= 60.0
    assert max(step.at_s + step.length_s for step in faults) <= 600.0
    assert len(stops) == 30
    clock = plan_clock(60.0, Random(1))
    assert max(step.at_s + step.length_s for step in clock) <= 60.0
    assert {step.fault for step in faults} == set(Fault) - {Fault.NONE}


def test_links_have_no_faults_around_long_stops_of_the_master() -> None:
    stops = [Step(100.0, 12.0), Step(300.0, 0.5), Step(400.0, 12.0, node=1)]
    ((since, until),) = calm(stops)
    assert (since < 100.0, until > 112.0) == (True, True)
    steps = plan_faults(600.0, Random(1), [(since, until)])
    assert steps
    assert [step for step in steps if step.at_s < until and step.at_s + step.length_s > since] == []


def test_a_node_that_ends_by_itself_is_noted(tmp_path: Path) -> None:
    node = Node("early", ["--version"], tmp_path)
    node.start()

    def fell() -> list[str]:
        node.check()
        return node.fell

    assert "exit code 0" in until(fell, "the end is noted")[0]
    assert not node.lives


def test_a_node_that_is_killed_has_not_fallen(tmp_path: Path) -> None:
    node = Node("killed", ["worker", "--port", "0"], tmp_path)
    node.start()
    node.stop()
    assert until(lambda: state_of(node.pid) == "T", "it is stopped")
    age_s = node.age_s
    time.sleep(0.05)
    assert node.age_s == age_s, "what is stopped does not get on"
    node.go_on()
    assert until(lambda: state_of(node.pid) in "SR", "it goes on")
    node.die()
    assert (node.lives, node.fell) == (False, [])


def test_errors_in_a_log_are_found(tmp_path: Path) -> None:
    node = Node("master", [], tmp_path)
    node.log.write_text(
        "2026-01-01 10:00:00,000 INFO dte.master: worker joined\n"
        "2026-01-01 10:00:00,000 WARNING dte.master: silent for 2 s\n"
        "2026-01-01 10:00:00,000 ERROR dte.master: POST /submit\n"
        "Traceback (most recent call last):\n"
    )
    assert [line.split()[-1] for line in node.errors()] == ["/submit", "last):"]


def test_calls_that_a_worker_had_to_return_or_that_harmed_others_are_found(tmp_path: Path) -> None:
    node = Node("worker-1", [], tmp_path)
    node.log.write_text(
        "2026-01-01 10:00:00,000 INFO dte.worker: stopping and returning unfinished calls: 2\n"
        "2026-01-01 10:00:00,000 WARNING dte.worker: job 1 failed\n"
        "2026-01-01 10:00:00,000 WARNING dte.worker: async handler 'nap' ended the process of "
        "others; its calls have a process to themselves from now on\n"
    )
    assert [line.split()[-1] for line in node.errors()] == ["2", "on"]
