import pickle

import pytest

from dte.core.errors import (
    Busy,
    Conflict,
    DteError,
    FormulaError,
    JournalDamaged,
    StorageFull,
    TryAgain,
    Unavailable,
    WaitTooLong,
    caret_lines,
)


def test_a_caret_stands_below_the_column() -> None:
    assert caret_lines("1+*2", 3) == "1+*2\n  ^"


def test_a_caret_may_stand_behind_the_end() -> None:
    assert caret_lines("1+", 3) == "1+\n  ^"


def test_a_long_formula_is_cut_around_the_caret() -> None:
    shown, caret = caret_lines("1+" * 100 + ")" + "+1" * 100, 201).split("\n")
    assert shown == "…" + "1+" * 15 + ")" + "+1" * 15 + "…"
    assert shown[caret.index("^")] == ")"


def test_controls_do_not_move_the_caret() -> None:
    assert caret_lines("1\t\n\x00+)", 6) == "1   +)\n     ^"


def test_a_formula_error_says_where_it_is() -> None:
    assert str(FormulaError("no", 3, "")) == "no (column 3)"
    assert str(FormulaError("no", 3, "", index=7)) == "no (formula 7, column 3)"


@pytest.mark.parametrize(
    "error",
    [
        FormulaError("no", 3, "^", 7),
        WaitTooLong("90", 60.0),
        Conflict("used"),
        Busy("full", 7),
        Unavailable("ending", 7),
        StorageFull("no room", 7),
    ],
)
def test_errors_come_whole_out_of_another_process(error: DteError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(("kind", "status"), [(Busy, 429), (Unavailable, 503), (StorageFull, 507)])
def test_what_will_pass_says_when_to_try_again(kind: type[TryAgain], status: int) -> None:
    assert kind.status == status
    assert kind("full").retry_after_s == 1
    assert kind("full", 7).retry_after_s == 7


def test_a_full_disk_or_damage_is_a_way_to_be_unavailable() -> None:
    """Whoever only wants to know that nothing is accepted now need not know why."""
    assert issubclass(StorageFull, Unavailable)
    assert issubclass(JournalDamaged, Unavailable)
    assert StorageFull.code != Unavailable.code
