"""Options that commands share."""

from __future__ import annotations

from dataclasses import fields

import click
import pytest
from click.testing import CliRunner

from dte.cli import options
from dte.cli.main import main
from dte.master.journal.schema import Sync
from dte.master.settings import Settings

BOUNDS = [field for field in fields(Settings) if "help" in field.metadata]


@options.bounds()
def show(**values: object) -> None:
    """Show the bounds."""
    click.echo(Settings(**values))  # type: ignore[arg-type]


command = click.command()(show)


def test_every_bound_of_a_master_is_an_option_with_its_default() -> None:
    others = {"host", "port", "journal", "journal_sync", "journal_without_wal", "webhook_secret"}
    others |= {"tokens", "no_auth", "host_names", "trust_proxy", "seeds", "open_clients"}
    others |= {"tls_cert", "tls_key", "tls_client_ca", "tls_ca", "webhook_to"}
    assert {field.name for field in fields(Settings)} == others | {each.name for each in BOUNDS}
    assert CliRunner().invoke(command).stdout == f"{Settings()}\n"


@pytest.mark.parametrize("bound", [bound.name for bound in BOUNDS])
def test_a_bound_is_set_by_its_option_or_its_variable(bound: str) -> None:
    option, variable = f"--{bound.replace('_', '-')}", f"DTE_{bound.upper()}"
    by_option = CliRunner().invoke(command, [option, "7"]).stdout
    by_variable = CliRunner().invoke(command, env={variable: "7"}).stdout
    assert f"{bound}=7" in by_option
    assert by_option == by_variable


@pytest.mark.parametrize(
    ("old", "new"), [("notices_max", "webhooks_max"), ("notify_for_s", "webhook_for_s")]
)
def test_a_renamed_bound_is_still_set_by_its_old_name(old: str, new: str) -> None:
    option, variable = f"--{old.replace('_', '-')}", f"DTE_{old.upper()}"
    for given in ({"args": [option, "7"]}, {"env": {variable: "7"}}):
        assert f"{new}=7" in CliRunner().invoke(command, **given).stdout  # type: ignore[arg-type]
    both = {variable: "7", f"DTE_{new.upper()}": "8"}
    assert f"{new}=8" in CliRunner().invoke(command, env=both).stdout
    texts = CliRunner().invoke(command, ["--help"]).stdout
    texts += CliRunner().invoke(command, [option, "much"]).stderr
    assert f"--{new.replace('_', '-')}" in texts
    assert option not in texts
    assert variable not in texts


def test_the_secret_of_webhooks_is_still_set_by_its_old_name() -> None:
    @click.command()
    @options.webhook_option
    def secret(webhook_secret: str) -> None:
        click.echo(webhook_secret)

    for given in (
        {"args": ["--webhook-secret", "x"]},
        {"args": ["--notify-secret", "x"]},
        {"env": {"DTE_WEBHOOK_SECRET": "x"}},
        {"env": {"DTE_NOTIFY_SECRET": "x"}},
    ):
        assert CliRunner().invoke(secret, **given).stdout == "x\n"  # type: ignore[arg-type]
    assert "notify" not in CliRunner().invoke(secret, ["--help"]).stdout.lower()


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
def test_a_bound_is_not_set_below_its_least_value_nor_to_a_word(bound: object) -> None:
    option = f"--{bound.name.replace('_', '-')}"  # type: ignore[attr-defined]
    for value in ("-1", "much"):
        result = CliRunner().invoke(command, [option, value])
        assert result.exit_code == 2
        assert option in result.stderr


@pytest.mark.parametrize("name", ["master", "run"])
def test_a_master_and_a_run_have_a_journal_in_the_current_folder(name: str) -> None:
    (option,) = (each for each in main.commands[name].params if each.name == "journal")
    assert option.envvar == "DTE_JOURNAL"
    # Whether a run has one depends on its formulas, see test_run.py.
    assert option.default == ("dte.db" if name == "master" else None)
    assert name == "master" or "[default: dte.db; with formulas: none]" in (option.help or "")


@pytest.mark.parametrize("sync", list(Sync), ids=str)
def test_what_commits_survive_is_set_by_a_word(sync: Sync) -> None:
    @click.command()
    @options.journal_options("none")
    def journal(**values: object) -> None:
        click.echo(values)

    expected = {"journal": "x.db", "journal_sync": sync, "journal_without_wal": False}
    shown = CliRunner().invoke(journal, ["--journal", "x.db", "--journal-sync", sync.value])
    assert shown.stdout == f"{expected}\n"
    shown = CliRunner().invoke(journal, env={"DTE_JOURNAL": "x.db", "DTE_JOURNAL_SYNC": sync.value})
    assert shown.stdout == f"{expected}\n"
    assert CliRunner().invoke(journal, ["--journal-sync", "off"]).exit_code == 2


def test_an_environment_variable_means_the_same_in_every_command() -> None:
    """Unless it is spelled out: the port of the master that `run` starts is its own option."""
    helps: dict[str, set[str]] = {}
    for each in main.commands.values():
        for option in each.params:
            if isinstance(option, click.Option) and option.envvar:
                helps.setdefault(str(option.envvar), set()).add(option.opts[0])
    assert all(len(names) == 1 for names in helps.values()), helps


def test_options_are_added_in_the_order_in_which_they_are_listed() -> None:
    @click.command()
    @options.options(options.option("--first"), options.option("--second"))
    def both(first: str, second: str) -> None:
        """Both."""

    assert [option.name for option in both.params] == ["first", "second"]


def test_a_url_is_given_on_as_it_is() -> None:
    context, parameter = click.Context(command), click.Option(["--master"])
    url = "http://localhost:5000/"
    assert options.check_url(context, parameter, url) == url
    with pytest.raises(click.BadParameter, match="http://HOST:PORT is expected"):
        options.check_url(context, parameter, "localhost")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["job", "abc"], "'abc' is not a job id"),
        (["call", "echo", "--after", "job"], "'job' is not a job id"),
        (["job", "0"], "must be 1 or more, not 0"),
        (["call", "echo", "--timeout", "soon"], "'soon' is not a number of seconds"),
        (["call", "echo", "--timeout", "nan"], "'nan' is not a number of seconds"),
        (["call", "echo", "--delay", "-1"], "must be 0 or more, not -1.0"),
        (["call", "echo", "--priority", "high"], "'high' is not an integer"),
        (["call", "echo", "--retries", "1.5"], "'1.5' is not an integer"),
        (["master", "--port", "99999"], "must be from 0 to 65,535, not 99,999"),
        (["master", "--jobs-kept", "x"], "'x' is not an integer"),
    ],
)
def test_a_wrong_number_is_refused_in_plain_words(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize("value", ["maybe", "2", "--wait"])
def test_a_variable_of_a_flag_that_is_neither_on_nor_off_says_what_to_write(value: str) -> None:
    result = CliRunner().invoke(main, ["jobs"], env={"DTE_JSON": value})
    assert result.exit_code == 2
    assert f"{value!r} is neither on nor off; write 1 or 0" in result.stderr
    assert "DTE_JSON" in result.stderr


def test_the_option_for_the_master_is_left_out_of_hints_where_it_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DTE_MASTER", raising=False)
    assert options.at("http://localhost:5000") == ""
    assert options.at("http://here:5000") == " --master http://here:5000"
    monkeypatch.setenv("DTE_MASTER", "http://there:5000")
    assert options.at("http://localhost:5000") == " --master http://localhost:5000"
