import random
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluate import FUNCTIONS, evaluate, run
from dte.core.errors import FormulaError, TooLarge
from dte.core.formula.formula import SLICE_CHARS, FormulaLimits, parse, parse_in_slices
from dte.core.formula.parser import NUMBER_CHARS_MAX
from dte.core.graph.numbers import INTEGER_LIMIT

LIMITS = FormulaLimits()


def operations(text: str) -> int:
    return parse(text, LIMITS).graph.remaining


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+(2*3)/4-5", "-2.5"),
        ("10-3*2", "4"),
        ("1-2-3", "-4"),
        ("100/10/5", "2.0"),
        ("2*3/4*5", "7.5"),
        ("2--3", "5"),
        ("2-+3", "-1"),
        ("-(2+3)*4", "-20"),
        ("---(1)", "-1"),
        ("-((0))", "0"),
        ("-((0.0))", "-0.0"),
        ("--(1)", "1"),
        ("-0", "0"),
        ("-0.0", "-0.0"),
        ("-(0.0+0)", "-0.0"),
        ("-(-0.0)", "0.0"),
        ("0-0.0", "0.0"),
        (".5+5.", "5.5"),
        ("1e-3*1E3", "1.0"),
        ("1e+5", "100000.0"),
        ("000", "0"),
        ("00.5", "0.5"),
        ("007e1", "70.0"),
        ("6×7÷3−4", "10.0"),
        ("\t1\n+\r\f 2 \v", "3"),
        ("9007199254740993/1", "9007199254740992.0"),
        ("99999999999999999999*99999999999999999999", str(99999999999999999999**2)),
    ],
)
def test_formulas_have_python_s_value(text, value) -> None:
    assert repr(evaluate(text)) == value


@pytest.mark.parametrize(
    "case",
    [
        """
        1+*2
          ^
        a number or '(' is expected before '*'
        """,
        """
        1+
          ^
        the formula ends where a number or '(' is expected
        """,
        """
        (1+2
            ^
        a ')' is missing at the end
        """,
        """
        -((1+2*3
                ^
        2 ')' are missing at the end
        """,
        """
        1+2)+3
           ^
        ')' without a '(' before it
        """,
        """
        ()
         ^
        a number or '(' is expected before ')'
        """,
        """
        2(3)
         ^
        an operator is missing before '('
        """,
        """
        1 2
          ^
        an operator is missing before '2'
        """,
        """
        1.2.3
           ^
        an operator is missing before '.3'
        """,
        """
        1e
         ^
        an operator is missing before 'e'
        """,
        """
        1+１
          ^
        '１' is not part of a formula, which has numbers, + - * / and parentheses
        """,
        """
        1+x
          ^
        unknown name 'x'; write x(…) to call that handler
        """,
        """
        7%2
         ^
        '%' is not part of a formula, which has numbers, + - * / and parentheses
        """,
        """
        1+.
          ^
        '.' without a digit
        """,
        """
        1+007
          ^
        a number cannot begin with 0: write 7
        """,
    ],
)
def test_a_syntax_error_says_what_and_where(case) -> None:
    text, caret, reason = dedent(case).strip().split("\n")
    with pytest.raises(FormulaError) as caught:
        parse(text, LIMITS)
    assert caught.value.reason == reason
    assert caught.value.column == caret.index("^") + 1
    assert caught.value.caret == f"{text}\n{caret}"


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_formula_is_a_syntax_error(text) -> None:
    with pytest.raises(FormulaError, match="is empty"):
        parse(text, LIMITS)


def test_characters_without_a_shape_are_named_by_their_number() -> None:
    with pytest.raises(FormulaError, match=r"'U\+0000' is not part"):
        parse("1+\x002", LIMITS)


def test_the_column_is_right_in_a_later_slice() -> None:
    text = "1+" * (3 * SLICE_CHARS) + "1)"
    with pytest.raises(FormulaError) as caught:
        parse(text, LIMITS)
    assert caught.value.column == len(text)


def test_a_number_is_never_cut_between_slices() -> None:
    numbers = [random.Random(1).uniform(-1, 1) * 10.0**n for n in range(-250, 250)]
    text = "+".join(f"({number!r})" for number in numbers * 5)
    assert len(text) > 5 * SLICE_CHARS
    total = 0.0
    for place, number in enumerate(numbers * 5):
        total = number if place == 0 else total + number
    assert repr(evaluate(text)) == repr(total)


def test_equal_subexpressions_are_one_operation() -> None:
    assert operations("(1+2)*(1+2)") == 2
    assert operations("(1.5/2+1)-(1.5/2+1)") == 3


def test_signs_cost_nothing_where_they_cancel() -> None:
    assert operations("-" * 5000 + "(1+2)") == 1
    assert operations("-" * 5001 + "(1+2)") == 2
    assert operations("-" * 5001 + "7") == 0


def test_a_lone_number_has_its_value_at_once() -> None:
    assert parse("((-(7)))", LIMITS).value == -7
    assert parse("-(-(0.0))", LIMITS).value == 0.0
    assert parse("1+1", LIMITS).value is None


@pytest.mark.parametrize("operator", ["+", "*", "-"])
def test_chains_of_integers_become_balanced_trees(operator) -> None:
    count = 1024
    formula = parse(operator.join(map(str, range(1, count + 1))), LIMITS)
    assert formula.graph.remaining == count - 1
    value, rounds = run(formula)
    expected = 1
    for number in range(2, count + 1):
        expected = {"+": expected + number, "-": expected - number, "*": expected * number}[
            operator
        ]
    assert value == expected
    assert rounds == 10


def test_a_chain_of_products_between_sums_is_balanced_too() -> None:
    formula = parse("+".join(f"{n}*{n + 1}" for n in range(1000)), LIMITS)
    value, rounds = run(formula)
    assert value == sum(n * (n + 1) for n in range(1000))
    assert rounds <= 13


def test_chains_with_floats_go_from_left_to_right() -> None:
    numbers = [0.1 * n for n in range(1, 50)]
    formula = parse("+".join(map(repr, numbers)), LIMITS)
    value, rounds = run(formula)
    assert value == sum(numbers[1:], numbers[0])
    assert rounds == len(numbers) - 1


def test_integers_before_the_first_float_are_still_balanced() -> None:
    value, rounds = run(parse("1+" * 1023 + "1+0.5-0.25", LIMITS))
    assert value == 1024.25
    assert rounds <= 13


LONGEST = "9" * 4300


@pytest.mark.parametrize(
    "text",
    [
        f"-{LONGEST}+0+{LONGEST}+{LONGEST}",
        f"0*2*{'1' * 2200}*{'1' * 2200}",
        f"1+2+3+4-{LONGEST}+{LONGEST}-{LONGEST}+5",
        f"{LONGEST}-{LONGEST}+{LONGEST}-{LONGEST}",
    ],
)
def test_no_partial_result_is_longer_than_python_s_own(text: str) -> None:
    """Balancing must not make a job fail that goes well from left to right."""
    graph = parse(text, LIMITS).graph
    while graph.remaining:
        nodes = graph.take(100)
        results = [FUNCTIONS[s](a, b) for s, a, b in zip(*graph.columns(nodes), strict=True)]
        assert all(abs(result) < INTEGER_LIMIT for result in results)
        answer = graph.done(nodes, results)
    assert answer == eval(text)


def test_graphs_know_whether_their_integers_may_be_long() -> None:
    assert not parse("+".join(map(str, range(1000))), LIMITS).graph.wide
    assert not parse(f"{'9' * 300}*2+1.5*{'9' * 200}", LIMITS).graph.wide
    assert not parse("+".join(["0.5"] * 3000), LIMITS).graph.wide
    assert parse(f"{'9' * 400}+1", LIMITS).graph.wide
    assert parse(f"1.5*-{'9' * 400}", LIMITS).graph.wide
    assert parse("*".join(["12345678901234567890"] * 20), LIMITS).graph.wide


@pytest.mark.parametrize(
    ("text", "reason", "column"),
    [
        ("1+" + "7" * 10_000, "a number of more than 8192 characters", 3),
        ("1." + "7" * 10_000 + "+1", "a number of more than 8192 characters", 1),
        ("a" * 100_000, "a name of more than 200 characters", 1),
        ("1.1" * 100_000, "an operator is missing before '.11'", 5),
        ("1." + "7" * (SLICE_CHARS + NUMBER_CHARS_MAX - 3) + "x1", "a number of more than 8192", 1),
        ("1." + "7" * (NUMBER_CHARS_MAX - 2) + "x1", "an operator is missing before 'x1'", 8193),
        ("." * 10_000, "'.' without a digit", 1),
        ("7" * 10_000 + "x", "a number of more than 8192 characters", 1),
    ],
)
def test_text_without_an_operator_is_read_in_bounded_slices_too(
    text: str, reason: str, column: int
) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text, LIMITS)
    assert caught.value.reason.startswith(reason)
    assert caught.value.column == column


def test_5000_nested_parentheses_pass() -> None:
    assert evaluate("(" * 5000 + "1" + ")" * 5000) == 1
    assert evaluate("(1+" * 5000 + "1" + ")" * 5000) == 5001
    assert evaluate("-(" * 5000 + "7" + ")" * 5000) == 7


def test_a_formula_of_a_million_operations_passes() -> None:
    count = 1_000_000
    formula = parse("+".join(map(str, range(count + 1))), LIMITS)
    assert formula.graph.remaining == count
    assert run(formula)[0] == count * (count + 1) // 2


def test_too_long_a_formula_is_refused() -> None:
    with pytest.raises(TooLarge, match=r"formula too large: 5 characters > 4 .formula_chars_max."):
        parse("1+2+3", FormulaLimits(chars_max=4))


def test_too_many_operations_are_refused() -> None:
    assert operations("1+2+3+4") == 3
    limits = FormulaLimits(operations_max=2)
    with pytest.raises(TooLarge, match="more than 2 operations"):
        parse("1+2+3+4", limits)
    assert evaluate("1+-+-+-2+3", limits) == 2


@pytest.mark.parametrize("sign", ["", "-"])
def test_integers_have_as_many_digits_as_the_bound(sign) -> None:
    limits = FormulaLimits(digits_max=10)
    assert evaluate(sign + "9" * 10, limits) == int(sign + "9" * 10)
    with pytest.raises(FormulaError, match=r"number too long: 11 digits > 10 .digits_max."):
        parse(sign + "9" * 11, limits)


def test_a_float_literal_beyond_the_range_fails_the_job_and_not_the_syntax() -> None:
    assert parse("1e999+1", LIMITS).graph.failure is not None


def test_slices_are_small() -> None:
    """The work between two slices is bounded, whatever the length."""
    assert len(list(parse_in_slices("1+" * 50_000 + "1", LIMITS))) >= 100_000 // SLICE_CHARS


INTEGERS = st.integers(0, 10**20).map(str)
FLOATS = st.floats(0, 1e200, allow_nan=False).map(repr)
NUMBERS = st.one_of(INTEGERS, FLOATS, st.sampled_from(["0", "0.0", ".5", "5.", "1e-3", "2E+2"]))
SPACES = st.sampled_from(["", "", "", " ", "\t", "  "])


def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signed = st.builds("{}{}{}".format, st.sampled_from(["", "-", "+", "--"]), SPACES, inner)
    chains = st.lists(st.tuples(st.sampled_from("+-*/"), SPACES, signed), max_size=6)
    joined = st.builds(
        lambda first, rest: first + "".join("".join(part) for part in rest), signed, chains
    )
    return joined | joined.map("({})".format)


@settings(max_examples=1000)
@given(st.recursive(NUMBERS, extend, max_leaves=25))
def test_every_formula_has_python_s_value_bit_for_bit(text) -> None:
    try:
        expected = repr(eval(text.strip()))
    except ArithmeticError:
        with pytest.raises(ArithmeticError):
            evaluate(text)
    else:
        assert repr(evaluate(text)) == expected


@settings(max_examples=1000)
@given(st.text(alphabet="0123456789.eE+-*/() ×÷−_xj\n\x00", max_size=30))
def test_every_text_has_a_value_or_a_syntax_error_with_a_place(text) -> None:
    try:
        formula = parse(text, LIMITS)
    except FormulaError as error:
        place, caret = error.column, error.caret
    else:
        formula.graph.check()
        return
    assert 1 <= place <= len(text) + 1
    assert caret.count("\n") == 1


def test_the_longest_number_is_the_longest_wherever_it_stands() -> None:
    for before in ("", "1+", "1+" * (SLICE_CHARS // 2), "1+" * (SLICE_CHARS // 2 - 1)):
        longest = "1." + "0" * (NUMBER_CHARS_MAX - 2)
        assert parse(f"{before}{longest}+1", LIMITS).graph.failure is None
        with pytest.raises(FormulaError, match="more than 8192 characters"):
            parse(f"{before}{longest}0+1", LIMITS)


def test_any_number_of_zeros_is_zero() -> None:
    assert parse("0" * 5_000, LIMITS).value == 0


def test_a_typographic_minus_in_an_exponent_moves_no_column_and_is_not_cut() -> None:
    with pytest.raises(FormulaError) as caught:
        parse("9e−9+)", LIMITS)
    assert caught.value.column == 6
    assert parse("1+" * (SLICE_CHARS // 2 - 1) + " 9e−9", LIMITS).graph.remaining
