from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from dte.handlers import builtin, registry
from dte.handlers.builtin import calculate_pi, compute, fibonacci, prime_factorization, primes

PRIMES_TO_30 = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]


def test_echo_gives_its_argument_back() -> None:
    assert builtin.echo({"a": [1]}) == {"a": [1]}


def test_sleep_gives_its_seconds_and_refuses_strange_ones() -> None:
    assert asyncio.run(builtin.sleep(0.001)) == 0.001
    for seconds in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="seconds must be 0 or more"):
            asyncio.run(builtin.sleep(seconds))


def test_fibonacci_numbers_are_exact_at_any_size() -> None:
    assert [fibonacci(n) for n in range(13)] == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144]
    n = 100_001
    assert fibonacci(n) == fibonacci(n - 1) + fibonacci(n - 2)
    assert fibonacci(n - 1) * fibonacci(n + 1) - fibonacci(n) ** 2 == (-1) ** n
    with pytest.raises(ValueError, match="n must be 0 or more, not -1"):
        fibonacci(-1)


def test_factors_are_ascending_with_their_multiplicity() -> None:
    assert prime_factorization(84) == [2, 2, 3, 7]
    for n in (1, 0, -7):
        with pytest.raises(ValueError, match="n must be 2 or more"):
            prime_factorization(n)


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 3, 4, 8, 9, 25, 29, 30, 961, 1000, 10_007])
def test_both_methods_find_the_same_primes(limit: int) -> None:
    found = primes(limit, "sieve")
    assert found == primes(limit, "trial_division") == primes(limit)
    assert found == [
        n for n in range(2, limit + 1) if all(n % i for i in range(2, n) if i * i <= n)
    ]


def test_the_sieve_is_quick() -> None:
    assert len(primes(1_000_000)) == 78_498


def test_compute_tells_how_and_how_long_beside_the_primes() -> None:
    result = compute(30, "trial_division")
    assert result.pop("computation_time") >= 0
    assert result == {"status": "completed", "primes": PRIMES_TO_30, "method": "trial_division"}
    assert registry.find("prime").function is compute


def test_a_limit_is_capped_and_a_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMES_MAX_LIMIT", "30")
    result = compute(1000)
    assert result["primes"] == PRIMES_TO_30 == primes(1000)
    assert result["requested_limit"] == 1000
    assert result["warning"] == "the limit 1000 is capped at 30"
    assert "warning" not in compute(30)


def test_the_environment_has_the_method_that_is_taken_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert compute(10)["method"] == "sieve"
    monkeypatch.setenv("PRIMES_DEFAULT_METHOD", "trial_division")
    assert compute(10)["method"] == "trial_division"
    assert compute(10, "sieve")["method"] == "sieve"


def test_pi_is_a_partial_sum_of_at_most_1000_terms() -> None:
    assert calculate_pi(0) == 0
    assert calculate_pi(1) == 4 - 2 / 4 - 1 / 5 - 1 / 6
    assert calculate_pi(1000) == calculate_pi(10**9) == pytest.approx(math.pi, abs=1e-15)


def test_the_functions_of_a_scheduler() -> None:
    assert builtin.process_data(1, 2.5) == 3.5
    assert builtin.process_data("a", "b") == "ab"
    line = builtin.send_email("a@b.c", "Hello", "…")
    assert "a@b.c" in line
    assert "Hello" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "data",
    [
        {"limit": 30, "method": "sieve"},
        {"limit": 30.0},
        {"limit": 30, "method": "unknown", "type": "prime", "more": [1]},
        {"limit": 30, "method": None},
        {"limit": 30, "method": ["sieve"]},
        [30],
    ],
)
@pytest.mark.parametrize("name", ["compute", "prime"])
def test_compute_takes_what_workers_of_the_queue_take(name: str, data: Any) -> None:
    handler = registry.find(name)
    assert handler is not None
    positional, named = handler.signature.bind(data)
    result = handler.function(*positional, **named)
    assert (result["primes"], result["method"]) == (PRIMES_TO_30, "sieve")


@pytest.mark.parametrize("data", [{}, [], [None], {"type": "prime"}])
def test_compute_has_a_limit_by_default(data: Any) -> None:
    handler = registry.find("compute")
    assert handler is not None
    positional, named = handler.signature.bind(data)
    assert handler.function(*positional, **named)["primes"] == primes(100_000)


def test_a_bound_of_primes_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMES_MAX_LIMIT", "many")
    with pytest.raises(ValueError, match="PRIMES_MAX_LIMIT must be a number from 0, not 'many'"):
        primes(10)
