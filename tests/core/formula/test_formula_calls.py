import json
from collections.abc import Callable
from random import Random
from textwrap import dedent
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluate import FUNCTIONS
from dte.core.errors import FormulaError, TooLarge
from dte.core.formula import formula as module
from dte.core.formula.formula import SLICE_CHARS, FormulaLimits, parse, parse_in_slices
from dte.core.graph.call import Call, CallState, Ref, filled
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number
from dte.core.graph.work import Work

LIMITS = FormulaLimits()


def calls_of(text: str, *pure: str) -> CallGraph:
    calls = parse(text, LIMITS, pure).calls
    assert calls is not None
    return calls


def fibonacci(n: int) -> int:
    one, other = 0, 1
    for _ in range(n):
        one, other = other, one + other
    return one


HANDLERS: dict[str, Callable[..., Number]] = {
    "now": lambda: 1700000000.25,
    "f": lambda x: x - 1,
    "twice": lambda x: 2 * x,
    "max.of": lambda *numbers: max(numbers),
    "_difference_2.e": lambda x, y: x - y,
    "fibonacci": fibonacci,
}
PYTHON = {
    **HANDLERS,
    "max": SimpleNamespace(of=HANDLERS["max.of"]),
    "_difference_2": SimpleNamespace(e=HANDLERS["_difference_2.e"]),
}


class Play:
    """Does a formula's operations and calls, in any order in which they become ready.

    Args:
        rng: decides on the order; without it, calls are done first, and the oldest of them.
    """

    def __init__(self, formula: Work, rng: Random | None = None) -> None:
        assert formula.calls is not None
        self.graph, self.calls = formula.graph, formula.calls
        self._rng = rng
        self._ready = self.calls.ready()
        self._given = 0
        self.answers: list[Number] = []

    def value(self) -> Number:
        while self._ready or self.graph.ready:
            self._check()
            if self._ready and (not self.graph.ready or not self._rng or self._rng.random() < 0.5):
                at = self._rng.randrange(len(self._ready)) if self._rng else 0
                self._do_call(self._ready.pop(at))
            else:
                self._do_operations(self._rng.randint(1, 5) if self._rng else 1000)
        assert self.graph.remaining == self.calls.remaining == 0
        (answer,) = self.answers
        return answer

    def _check(self) -> None:
        if self._rng is not None:
            self.graph.check()
            self.calls.check()

    def _do_operations(self, count: int) -> None:
        nodes = self.graph.take(count)
        columns = zip(*self.graph.columns(nodes), strict=True)
        results = [FUNCTIONS[symbol](left, right) for symbol, left, right in columns]
        self.graph.done(nodes, results)
        ready, answer = self.calls.arithmetic_done(nodes, results)
        self._ready += ready
        if answer is not None:
            self.answers.append(answer)

    def _do_call(self, call: Call) -> None:
        assert call.operands.keys() == set(call.refs)
        operands = {name: json.loads(value) for name, value in call.operands.items()}
        value = HANDLERS[call.handler](*filled(call.args, operands))
        call.enter(CallState.RUNNING)
        call.conclude(0.0, CallState.SUCCEEDED, repr(value).encode())
        call.enter(CallState.SUCCEEDED)
        ready, failed = self.calls.ended(call)
        assert not failed
        self._ready += ready
        self.graph.supply(call.edges, value)
        if call is self.calls.answer:
            self.answers.append(value)


def evaluate(text: str, *pure: str) -> Number:
    return Play(parse(text, LIMITS, pure)).value()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("fibonacci(30) + 2*3", "832046"),
        ("max.of(1+2, fibonacci(3)) * -f(2)", "-3"),
        ("now()", "1700000000.25"),
        ("now ( \n ) - 0.25", "1700000000.0"),
        ("f(1.0)*-1", "-0.0"),
        ("-f(1.0)", "-0.0"),
        ("-(f(1.0))", "-0.0"),
        ("--f(3)", "2"),
        ("+f(3)", "2"),
        ("+-+f(3)", "-2"),
        ("2--f(3)", "4"),
        ("-f(-(3))", "4"),
        ("f(f(f(10)))", "7"),
        ("_difference_2.e(10, 3-1)", "8"),
        ("_difference_2.e((1+2)*3, -now())", "1700000009.25"),
        ("8-f(3)-2-1", "3"),
        ("8-3-f(3)-f(2)+1", "3"),
        ("12/f(4)/2*f(3)", "4.0"),
        ("2×f(3)÷4−1", "0.0"),
        ("f((((3))))", "2"),
        ("(f(3))", "2"),
        ("((f(3)+1))*(f(3)+1)", "9"),
        ("99999999999999999999+f(1)+1", "100000000000000000000"),
    ],
)
def test_a_formula_may_call_handlers(text, value) -> None:
    assert repr(evaluate(text)) == value
    assert repr(evaluate(text, *HANDLERS)) == value


def test_a_formula_without_calls_has_none() -> None:
    assert parse("1+2*(3-4)", LIMITS).calls is None
    assert parse("7", LIMITS).calls is None


def test_a_call_is_named_by_its_handler_and_column() -> None:
    assert list(calls_of("1 + f(2)-images.resize ( -f( 3 ))").calls) == [
        "f@5",
        "f@27",
        "images.resize@10",
    ]
    far = "1+" * (3 * SLICE_CHARS) + "f()"
    assert list(calls_of(far).calls) == [f"f@{len(far) - 2}"]


def test_arguments_are_numbers_where_they_can_be() -> None:
    calls = calls_of("g(1, -2.5, -(3), (4), 1+2, f(), -f(), 1e5)")
    (call,) = (call for call in calls.calls.values() if call.handler == "g")
    assert repr(call.args[:4]) == "[1, -2.5, -3, 4]"
    assert call.args[4:] == [Ref("#0"), Ref("f@28"), Ref("#1"), 100000.0]
    assert call.missing == 3


def test_the_answer_is_a_call_or_the_root_of_the_arithmetic() -> None:
    alone = calls_of("f(1+2)")
    assert (alone.answer, alone.root) == (alone.calls["f@1"], None)
    assert alone.arithmetic == {0: [(alone.answer, "#0")]}
    mixed = calls_of("1+2+f(1)")
    assert (mixed.answer, mixed.root, mixed.arithmetic) == (None, 1, {})
    assert alone.is_formula
    assert mixed.is_formula
    assert (alone.remaining, mixed.remaining) == (1, 1)


def test_an_operation_that_only_a_call_reads_is_not_the_answer() -> None:
    assert evaluate("f(1+2)*10") == 20
    assert evaluate("twice(twice(1+2)+f(3))") == 16


def test_equal_calls_of_pure_handlers_are_one() -> None:
    text = "(f(1+2)+f(1+2))*twice(f(1+2))-twice(f(1+2))"
    assert list(calls_of(text, "f", "twice").calls) == ["f@2", "twice@17"]
    assert len(calls_of(text, "f").calls) == 3
    assert len(calls_of(text, "twice").calls) == 6
    assert len(calls_of(text).calls) == 6
    assert evaluate(text, *HANDLERS) == evaluate(text) == 12


def test_arguments_that_are_equal_to_python_and_not_the_same_are_two_calls() -> None:
    assert len(calls_of("f(1)+f(1.0)+f(0)+f(0.0)+f(-0.0)", "f").calls) == 5
    assert len(calls_of("f(1)+f((1))+f(-(-1))+f(2)", "f").calls) == 2
    assert len(calls_of("f(1,2)+f(2,1)+f(1)+f()", "f").calls) == 4


def test_operations_on_calls_are_one_where_the_calls_are() -> None:
    pure, other = parse("(f(1)+2)*(f(1)+2)", LIMITS, {"f"}), parse("(f(1)+2)*(f(1)+2)", LIMITS)
    assert (pure.graph.remaining, other.graph.remaining) == (2, 3)


def test_integers_before_a_call_are_still_balanced() -> None:
    formula = parse("1+" * 1024 + "f(1)", LIMITS)
    rounds = 0
    graph = formula.graph
    while graph.ready:
        rounds += 1
        nodes = graph.take(len(graph.ready))
        columns = zip(*graph.columns(nodes), strict=True)
        graph.done(nodes, [FUNCTIONS[symbol](left, right) for symbol, left, right in columns])
    assert rounds == 10
    assert graph.remaining == 1


def test_integers_that_calls_give_may_be_long() -> None:
    assert parse("f(1)+2", LIMITS).graph.wide


def test_a_number_beyond_the_range_fails_the_job_as_an_argument_too() -> None:
    assert parse("f(1e999)", LIMITS).graph.failure is not None


@pytest.mark.parametrize(
    "case",
    [
        """
        f(1
           ^
        a ')' is missing at the end
        """,
        """
        f(2*(g(1,3+4
                    ^
        3 ')' are missing at the end
        """,
        """
        1+f(
            ^
        the formula ends where a number or '(' is expected
        """,
        """
        f(1,
            ^
        the formula ends where a number or '(' is expected
        """,
        """
        1,2
         ^
        unexpected ','; commas separate arguments, and decimals use '.'
        """,
        """
        f(2*(1,2))
              ^
        unexpected ','; commas separate arguments, and decimals use '.'
        """,
        """
        f(1),2
            ^
        unexpected ','; commas separate arguments, and decimals use '.'
        """,
        """
        1+,
          ^
        a number or '(' is expected before ','
        """,
        """
        f(1,)
            ^
        a number or '(' is expected before ')'
        """,
        """
        f(1, ,2)
             ^
        a number or '(' is expected before ','
        """,
        """
        f(,1)
          ^
        a number or '(' is expected before ','
        """,
        """
        f(-)
           ^
        a number or '(' is expected before ')'
        """,
        """
        f(+ )
            ^
        a number or '(' is expected before ')'
        """,
        """
        f(())
           ^
        a number or '(' is expected before ')'
        """,
        """
        f(-())
            ^
        a number or '(' is expected before ')'
        """,
        """
        f(x)
          ^
        unknown name 'x'; write x(…) to call that handler
        """,
        """
        2*max.of + 1
          ^
        unknown name 'max.of'; write max.of(…) to call that handler
        """,
        """
        -inf
         ^
        unknown name 'inf'; write inf(…) to call that handler
        """,
        """
        f g(1)
        ^
        unknown name 'f'; write f(…) to call that handler
        """,
        """
        send-email(1)
        ^
        unknown name 'send'; write send(…) to call that handler
        """,
        """
        2f(1)
         ^
        an operator is missing before 'f'
        """,
        """
        1 plus 2
          ^
        an operator is missing before 'plus'
        """,
        """
        f(1)(2)
            ^
        an operator is missing before '('
        """,
        """
        f(1)g(2)
            ^
        an operator is missing before 'g'
        """,
        """
        (f)(1)
         ^
        unknown name 'f'; write f(…) to call that handler
        """,
        """
        f.(1)
        ^
        unknown name 'f'; write f(…) to call that handler
        """,
        """
        .f(1)
        ^
        '.' without a digit
        """,
        """
        f(1))
            ^
        ')' without a '(' before it
        """,
        """
        f(n=1)
          ^
        unknown name 'n'; write n(…) to call that handler
        """,
        """
        f("a")
          ^
        a formula has no strings; to pass one to a handler, submit a call of the handler
        """,
        """
        é(1)
        ^
        'é' is not part of a formula, which has numbers, + - * / and parentheses
        """,
    ],
)
@pytest.mark.parametrize("chars", [1, SLICE_CHARS])
def test_a_syntax_error_says_what_and_where(case, chars) -> None:
    text, caret, reason = dedent(case).strip("\n").split("\n")[:3]
    with (
        patch.object(module, "SLICE_CHARS", chars),
        pytest.raises(FormulaError) as caught,
    ):
        parse(text, LIMITS)
    assert caught.value.reason == reason
    assert caught.value.column == caret.index("^") + 1
    assert caught.value.caret == f"{text}\n{caret}"


def test_names_have_up_to_200_characters() -> None:
    assert len(calls_of("a" * 200 + "()").calls) == 1
    for text in ("a" * 201 + "()", "1+" * SLICE_CHARS + "a.b" * 100_000):
        with pytest.raises(FormulaError, match="a name of more than 200 characters") as caught:
            parse(text, LIMITS)
        assert caught.value.column == text.index("a") + 1


def test_a_call_has_up_to_100_arguments() -> None:
    (call,) = calls_of(f"f({','.join(['1'] * 100)})").calls.values()
    assert len(call.args) == 100
    text = f"f({','.join(['1'] * 101)})"
    with pytest.raises(FormulaError, match="more than 100 arguments in a call") as caught:
        parse(text, LIMITS)
    assert caught.value.column == len(text) - 2


def test_long_arguments_are_read_in_slices() -> None:
    text = f"f({','.join(['7' * 4000] * 100)})"
    (call,) = calls_of(text).calls.values()
    assert call.args == [int("7" * 4000)] * 100
    assert len(list(parse_in_slices(text, LIMITS))) >= 50


def test_too_many_calls_are_refused() -> None:
    limits = FormulaLimits(calls_max=2)
    assert parse("f(1)+f(2)", limits).calls is not None
    assert parse("f(1)+f(1)+f(2)", limits, {"f"}).calls is not None
    for text in ("f(1)+f(1)+f(2)", "f(f(f(1)))", "f(" * 3):
        with pytest.raises(TooLarge, match=r"more than 2 calls.*\(calls_max\)"):
            parse(text, limits)
    with pytest.raises(TooLarge, match="calls_max"):
        parse("f(" * 1_000_000, LIMITS)


@pytest.mark.no_cover
def test_calls_are_nested_as_deep_as_there_may_be_calls() -> None:
    depth = 20_000
    assert evaluate("f(" * depth + "0" + ")" * depth) == -depth
    assert evaluate("-f(1+" * depth + "0" + ")" * depth) == 0


@pytest.mark.no_cover
def test_a_hundred_thousand_calls_pass() -> None:
    count = LIMITS.calls_max
    text = "+".join(f"f({n})" for n in range(count))
    formula = parse(text, LIMITS)
    assert formula.graph.remaining == count - 1
    assert formula.calls is not None
    assert formula.calls.remaining == count
    assert Play(formula).value() == count * (count - 1) // 2 - count


@pytest.mark.no_cover
def test_one_call_may_be_read_by_very_many() -> None:
    count = 100_000
    formula = parse("+".join(f"f(2)*{n}" for n in range(count)), LIMITS, {"f"})
    assert formula.calls is not None
    assert len(formula.calls.calls["f@1"].edges) == count
    assert Play(formula).value() == count * (count - 1) // 2


INTEGERS = st.integers(0, 10**20).map(str)
NUMBERS = INTEGERS | st.sampled_from(["0", "1", "2", "0.0", ".5", "5.", "1e-3", "2E+2", "0.1"])
SPACES = st.sampled_from(["", "", "", " ", "\t", "  "])
ARGUMENTS = {
    "now": (0, 0),
    "f": (1, 1),
    "twice": (1, 1),
    "max.of": (1, 4),
    "_difference_2.e": (2, 2),
}


def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signed = st.builds("{}{}{}".format, st.sampled_from(["", "-", "+", "--"]), SPACES, inner)
    chains = st.lists(st.tuples(st.sampled_from("+-*/"), SPACES, signed), max_size=6)
    joined = st.builds(
        lambda first, rest: first + "".join("".join(part) for part in rest), signed, chains
    )
    calls = [
        st.builds(
            lambda name, space, arguments, comma: f"{name}{space}({comma.join(arguments)})",
            st.just(name),
            SPACES,
            st.lists(joined, min_size=least, max_size=most),
            st.sampled_from([",", ", ", " ,"]),
        )
        for name, (least, most) in ARGUMENTS.items()
    ]
    return st.one_of(joined, joined.map("({})".format), *calls, *calls)


FORMULAS = st.recursive(NUMBERS, extend, max_leaves=25)
PURE = st.sets(st.sampled_from(list(ARGUMENTS)))


@settings(max_examples=500, deadline=None)
@given(FORMULAS, PURE, st.integers(0, 2**32), st.integers(1, 40))
def test_calls_and_operations_have_python_s_value_in_any_order(text, pure, seed, chars) -> None:
    with patch.object(module, "SLICE_CHARS", chars):
        formula = parse(text, LIMITS, pure)
    if formula.calls is None:
        return
    try:
        expected = eval(text.strip(), PYTHON)
    except ArithmeticError:
        with pytest.raises(ArithmeticError):
            Play(formula, Random(seed)).value()
    else:
        assert repr(Play(formula, Random(seed)).value()) == repr(expected)


@settings(max_examples=500, deadline=None)
@given(FORMULAS | st.text(alphabet="019.eE+-*/() ,,((fg_x\n−", max_size=30), PURE)
def test_slices_make_no_difference(text, pure) -> None:
    described = set()
    for chars in (1, 2, 7, SLICE_CHARS):
        with patch.object(module, "SLICE_CHARS", chars):
            try:
                formula = parse(text, LIMITS, pure)
            except FormulaError as error:
                described.add((str(error), error.caret))
                continue
        graph = formula.graph
        graph.check()
        parts = [getattr(graph, name) for name in graph.__slots__]
        if (calls := formula.calls) is not None:
            parts += [calls.root, calls.answer and calls.answer.name, calls.remaining, calls.size]
            parts += [
                (call.name, call.handler, call.args, call.refs, call.missing, call.edges, call.pure)
                for call in calls.calls.values()
            ]
        described.add(repr(parts))
    assert len(described) == 1
