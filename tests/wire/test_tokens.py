"""What is taken for a token, and what is refused before it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from dte.wire.access import Access
from dte.wire.tokens import checked, checked_file, doubt

TOKEN = "dte_c_" + "a" * 43


@pytest.mark.parametrize("text", [TOKEN, f" {TOKEN}\n", "of-another_master", "a/b+c==", "it's", ""])
def test_tokens_of_all_masters_are_taken(text: str) -> None:
    assert checked(text, "DTE_TOKEN") == text.strip()


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_that_were_kept_are_named(quote: str) -> None:
    with pytest.raises(ValueError, match="DTE_TOKEN has quotes around it; leave them out") as found:
        checked(f"{quote}{TOKEN}{quote}", "DTE_TOKEN")
    assert TOKEN not in str(found.value)


def test_the_name_of_a_file_is_no_token(tmp_path: Path) -> None:
    file = tmp_path / "my token"
    file.touch()
    with pytest.raises(ValueError, match="DTE_TOKEN has the name of a file") as found:
        checked(str(file), "DTE_TOKEN")
    assert "DTE_TOKEN_FILE" in str(found.value)


@pytest.mark.parametrize("text", [TOKEN, f'"{TOKEN}"', f"{TOKEN}\n"])
def test_a_token_is_no_name_of_a_file_and_is_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="DTE_TOKEN_FILE has a token") as found:
        checked_file(text, "DTE_TOKEN_FILE")
    assert TOKEN not in str(found.value)


def test_a_file_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DTE_TOKEN", raising=False)
    sent = {"Authorization": f"Bearer {TOKEN}"}
    assert Access("http://localhost", token_file="~/token").headers() == sent
    monkeypatch.setenv("DTE_TOKEN_FILE", "~/token")
    assert Access("http://localhost").headers() == sent


def test_only_what_does_not_look_like_a_token_is_doubted() -> None:
    assert doubt(None) == doubt({}) == doubt({"Authorization": f"Bearer {TOKEN}"}) == ""
    found = doubt({"Authorization": "Bearer shop.token"})
    assert "dte_" in found
    assert "DTE_TOKEN_FILE" in found
    assert "shop.token" not in found
