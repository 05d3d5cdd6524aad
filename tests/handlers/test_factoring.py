from __future__ import annotations

import math
from random import Random

import pytest

from dte.handlers.factoring import factors, is_prime


def test_small_numbers_are_taken_apart_as_by_trial_division() -> None:
    for n in range(2, 5000):
        found = factors(n)
        assert math.prod(found) == n
        assert found == sorted(found)
        assert all(all(p % q for q in range(2, math.isqrt(p) + 1)) for p in found)
        assert is_prime(n) == (len(found) == 1)


def test_factors_multiply_to_the_number_and_are_prime() -> None:
    chance = Random(1)
    for _ in range(100):
        n = chance.randrange(2, 10 ** chance.randrange(2, 20))
        found = factors(n)
        assert math.prod(found) == n
        assert all(is_prime(each) for each in found)


@pytest.mark.parametrize("prime", [2003, 1_000_003, 10**12 + 39])
@pytest.mark.parametrize("exponent", [2, 3, 4, 5, 7])
def test_powers_of_primes_are_found(prime: int, exponent: int) -> None:
    assert factors(prime**exponent) == [prime] * exponent


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
    ],
)
def test_thirty_digits_take_seconds(left: int, right: int) -> None:
    found = factors(left * right)
    assert math.prod(found) == left * right
    assert all(is_prime(each) for each in found)
