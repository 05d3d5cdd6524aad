from __future__ import annotations

import math
import sys
from importlib.util import find_spec
from random import Random

import pytest

from dte.handlers.factoring import factors, is_prime


@pytest.fixture
def without_flint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flint", None)  # An import of it fails.


@pytest.fixture(params=["flint", "rho"])
def method(request: pytest.FixtureRequest) -> str:
    """Factors by FLINT and by Pollard's rho method in turn."""
    if request.param == "flint":
        pytest.importorskip("flint")
    else:
        request.getfixturevalue("without_flint")
    return str(request.param)


@pytest.mark.usefixtures("method")
def test_small_numbers_have_the_factors_of_trial_division() -> None:
    for n in range(2, 5000):
        found = factors(n)
        assert math.prod(found) == n
        assert found == sorted(found)
        assert all(all(p % q for q in range(2, math.isqrt(p) + 1)) for p in found)
        assert is_prime(n) == (len(found) == 1)


@pytest.mark.usefixtures("method")
def test_factors_multiply_to_the_number_and_are_prime() -> None:
    chance = Random(1)
    for _ in range(100):
        n = chance.randrange(2, 10 ** chance.randrange(2, 20))
        found = factors(n)
        assert math.prod(found) == n
        assert found == sorted(found)
        assert all(type(each) is int and is_prime(each) for each in found)


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("prime", [2003, 1_000_003, 10**12 + 39])
@pytest.mark.parametrize("exponent", [2, 3, 4, 5, 7])
def test_powers_of_primes_are_found(prime: int, exponent: int) -> None:
    assert factors(prime**exponent) == [prime] * exponent


@pytest.mark.usefixtures("method")
def test_a_power_of_a_long_prime_takes_no_time() -> None:
    assert factors((2**127 - 1) ** 2) == [2**127 - 1] * 2
    assert factors((2**127 - 1) ** 3) == [2**127 - 1] * 3


@pytest.mark.usefixtures("method")
def test_two_primes_of_eleven_digits_are_told_apart() -> None:
    assert factors(41_203_077_731 * 97_000_000_037) == [41_203_077_731, 97_000_000_037]


def test_both_methods_give_equal_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flint")
    chance = Random(2)
    numbers = [chance.randrange(2, 10 ** chance.randrange(2, 19)) for _ in range(100)]
    by_flint = [factors(n) for n in numbers]
    monkeypatch.setitem(sys.modules, "flint", None)
    assert [factors(n) for n in numbers] == by_flint


def test_numbers_that_fool_simpler_tests_are_composite() -> None:
    for carmichael in (561, 41_041, 825_265, 321_197_185):
        assert not is_prime(carmichael)
    assert not is_prime(3_825_123_056_546_413_051)  # A liar for the first nine primes.
    assert is_prime(2**127 - 1)
    assert not is_prime(2**137 - 1)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (799_432_651_811_903, 782_412_871_284_523),
        (999_999_999_999_947, 999_999_999_999_989),
        (10**19 + 51, 10**20 + 39),
    ],
)
@pytest.mark.skipif(find_spec("flint") is None, reason="it takes long without python-flint")
def test_thirty_digits_and_more_take_no_time_with_flint(left: int, right: int) -> None:
    found = factors(left * right)
    assert math.prod(found) == left * right
    assert all(is_prime(each) for each in found)
