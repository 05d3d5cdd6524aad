from __future__ import annotations

from dataclasses import Field, fields, replace

import pytest

from dte.core.formula.formula import FormulaLimits
from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.core.limits import SchedulerLimits
from dte.master.journal.retention import Retention
from dte.master.plans import PlanLimits
from dte.master.settings import Settings

BOUNDS = [field for field in fields(Settings) if field.metadata]


def test_every_setting_but_those_of_access_and_files_is_a_bound() -> None:
    assert {field.name for field in fields(Settings)} - {field.name for field in BOUNDS} == {
        *("host", "port"),
        *("journal", "journal_sync", "journal_without_wal", "webhook_secret", "webhook_to"),
        *("tokens", "no_auth", "open_clients", "seeds", "host_names", "trust_proxy"),
        *("tls_cert", "tls_key", "tls_client_ca", "tls_ca"),
    }


def test_tokens_are_beside_the_journal_unless_a_file_is_given() -> None:
    assert Settings(journal="/data/dte.db").tokens_file == "/data/dte.tokens"
    assert Settings().tokens_file == "dte.tokens"
    assert Settings(journal="/data/dte.db", tokens="other").tokens_file == "other"


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
def test_a_bound_says_what_it_is_for_and_its_default_is_allowed(bound: Field[float]) -> None:
    """The command line takes the text, the least and the most from here."""
    assert bound.metadata["help"].endswith(".")
    assert bound.metadata["minimum"] <= bound.default <= bound.metadata.get("maximum", 1e99)


def test_no_master_takes_integers_that_do_not_travel() -> None:
    (digits_max,) = (bound for bound in BOUNDS if bound.name == "digits_max")
    assert digits_max.metadata["maximum"] == INTEGER_DIGITS_MAX


def test_each_bound_of_a_formula_gets_where_it_belongs() -> None:
    settings = Settings(formula_chars_max=11, formula_operations_max=12, digits_max=13)
    assert settings.formula_limits() == FormulaLimits(
        chars_max=11, operations_max=12, digits_max=13
    )


def test_each_bound_of_the_scheduler_gets_where_it_belongs() -> None:
    """All of them have a setting: each differs from its default here, and from the others."""
    names = [field.name for field in fields(SchedulerLimits)]
    values = dict(zip(names, range(11, 99), strict=False))
    limits = replace(Settings(), **values).scheduler_limits()
    assert limits == SchedulerLimits(**values)


def test_the_defaults_are_those_of_the_core() -> None:
    assert Settings().formula_limits() == FormulaLimits()
    assert Settings().scheduler_limits() == SchedulerLimits()


def test_plans_and_the_journal_get_their_bounds() -> None:
    settings = Settings(calls_max=11, value_bytes_max=12, journal_jobs_max=13, journal_age_max_s=14)
    assert settings.plan_limits() == PlanLimits(FormulaLimits(calls_max=11), 12)
    assert settings.retention() == Retention(13, 14)
