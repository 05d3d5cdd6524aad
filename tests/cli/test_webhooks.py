"""The options of a master for webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dte.cli.webhooks import SECRET_BYTES_MAX, webhook_options, with_secret
from dte.master.settings import Settings


@click.command()
@webhook_options
def command(**values: Any) -> None:
    """Show the settings that matter."""
    settings = Settings(**with_secret(values))
    click.echo(f"{settings.webhook_secret!r} {settings.webhook_to!r}")


def test_the_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("sesame\n")
    for given in (
        {"args": ["--webhook-secret-file", str(file)]},
        {"env": {"DTE_WEBHOOK_SECRET_FILE": str(file)}},
        {"args": ["--webhook-secret", "sesame"]},
    ):
        result = CliRunner().invoke(command, **given)  # type: ignore[arg-type]
        assert result.stdout == "'sesame' ''\n"
    assert CliRunner().invoke(command).stdout == "'' ''\n"


def test_two_secrets_are_one_too_many(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("sesame")
    arguments = ["--webhook-secret-file", str(file)]
    result = CliRunner().invoke(command, arguments, env={"DTE_WEBHOOK_SECRET": "other"})
    assert result.exit_code == 2
    assert "not both" in result.stderr
    assert "sesame" not in result.output


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"x" * (SECRET_BYTES_MAX + 1), None])
def test_a_file_without_a_secret_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    result = CliRunner().invoke(command, ["--webhook-secret-file", str(file)])
    assert result.exit_code == 2
    assert str(file) in result.stderr.replace("\n", "")


def test_places_are_checked_at_the_start() -> None:
    places = "https://host, *.example.com 10.0.0.0/8,[::1]:8000"
    assert CliRunner().invoke(command, env={"DTE_WEBHOOK_TO": places}).stdout == f"'' {places!r}\n"
    result = CliRunner().invoke(command, ["--webhook-to", "10.0.0.0/8,ftp://host"])
    assert result.exit_code == 2
    assert "'ftp://host' is not a place for webhooks" in result.stderr
