"""Takes integers apart into primes: by division, then Pollard's rho, then elliptic curves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from random import Random

SMALL = [p for p in range(2, 2000) if all(p % q for q in range(2, math.isqrt(p) + 1))]
DETERMINISTIC_BELOW = 3_317_044_064_679_887_385_961_981
"""Below it, the first 13 primes as witnesses prove what Miller and Rabin's test finds."""
WITNESSES = 40
RHO_STEPS = 1 << 16
"""Finds divisors of up to about 9 digits; curves are quicker for longer ones."""
RHO_STEPS_AT_ONCE = 512
CURVES = [(2_000, 25), (11_000, 90), (50_000, 220)]
"""The bound of the first stage, and how many curves; for divisors of 15, 20 and 25 digits."""
SECOND_STAGE = 60
"""The bound of the second stage is so many times that of the first."""
STRIDE = 2310

Point = tuple[int, int]


def factors(n: int) -> list[int]:
    """The prime factors of n, which is 2 or more, ascending and each as often as it divides n."""
    found: list[int] = []
    for prime in SMALL:
        while n % prime == 0:
            found.append(prime)
            n //= prime
    chance = Random(n)
    left = [n] if n > 1 else []
    while left:
        n = left.pop()
        if is_prime(n):
            found.append(n)
        else:
            part = _divisor(n, chance)
            left += [part, n // part]
    return sorted(found)


def is_prime(n: int) -> bool:
    """Whether n, at least 2, is prime; beyond 24 digits a wrong yes has a chance below 4**-40."""
    for prime in SMALL:
        if n % prime == 0:
            return n == prime
    if n < SMALL[-1] ** 2:
        return True
    halvings = ((n - 1) & -(n - 1)).bit_length() - 1
    odd = (n - 1) >> halvings
    if n < DETERMINISTIC_BELOW:
        witnesses = SMALL[:13]
    else:
        chance = Random(n)
        witnesses = [chance.randrange(2, n - 1) for _ in range(WITNESSES)]
    return not any(_shows_composite(witness, n, odd, halvings) for witness in witnesses)


def _shows_composite(witness: int, n: int, odd: int, halvings: int) -> bool:
    power = pow(witness, odd, n)
    if power in (1, n - 1):
        return False
    for _ in range(halvings - 1):
        power = power * power % n
        if power == n - 1:
            return False
    return True


def _divisor(n: int, chance: Random) -> int:
    """A proper divisor of a composite without small factors."""
    for exponent in range(2, n.bit_length() // 10 + 1):
        root = _root(n, exponent)
        if root**exponent == n:
            return root
    found = _rho(n, chance)
    if found is not None:
        return found
    for bound in _bounds():
        found = _curve(n, bound, chance.randrange(6, n - 1))
        if 1 < found < n:
            return found
    raise AssertionError("the bounds never end")


def _root(n: int, exponent: int) -> int:
    """The integer part of a root, by Newton's method from above."""
    if exponent == 2:
        return math.isqrt(n)
    x = 1 << -(-n.bit_length() // exponent)
    while True:
        better = ((exponent - 1) * x + n // x ** (exponent - 1)) // exponent
        if better >= x:
            return x
        x = better


def _rho(n: int, chance: Random) -> int | None:
    """A proper divisor by Pollard's rho in the form of Brent, if few steps find one."""
    y, c = chance.randrange(1, n), chance.randrange(1, n)
    length, steps = 1, 0
    while steps < RHO_STEPS:
        x = y
        for _ in range(length):
            y = (y * y + c) % n
        done = 0
        while done < length:
            before, product = y, 1
            count = min(RHO_STEPS_AT_ONCE, length - done)
            for _ in range(count):
                y = (y * y + c) % n
                product = product * (x - y) % n
            if math.gcd(product, n) != 1:
                return _first_common(n, x, before, c)
            done += count
        steps += length
        length *= 2
    return None


def _first_common(n: int, x: int, y: int, c: int) -> int | None:
    """The divisor that is found first, one step at a time; None if all are at once."""
    common = 1
    while common == 1:
        y = (y * y + c) % n
        common = math.gcd(x - y, n)
    return common if common < n else None


def _bounds() -> Iterator[int]:
    for bound, count in CURVES:
        yield from [bound] * count
    while True:  # For hours, but in vain only by bad luck.
        bound += bound // 50
        yield bound


def _curve(n: int, bound: int, sigma: int) -> int:
    """A divisor of n by an elliptic curve in Montgomery's form, as Suyama chooses it; often 1."""
    u, v = (sigma * sigma - 5) % n, 4 * sigma % n
    below = 16 * u**3 * v % n
    common = math.gcd(below, n)
    if common != 1:
        return common
    a24 = pow(v - u, 3, n) * (3 * u + v) * pow(below, -1, n) % n
    point = pow(u, 3, n), pow(v, 3, n)
    for prime in _primes(bound):
        point = _times(prime ** int(math.log(bound, prime)), point, a24, n)
    common = math.gcd(point[1], n)
    return common if common != 1 else _second_stage(point, bound, a24, n)


def _second_stage(point: Point, bound: int, a24: int, n: int) -> int:
    """A divisor whose curve's order has one prime between the bounds, as well."""
    double = _double(point, a24, n)
    near = {1: point, 3: _add(double, point, point, n)}  # Odd multiples, to half a stride.
    for i in range(5, STRIDE // 2 + 1, 2):
        near[i] = _add(near[i - 2], double, near[i - 4], n)
    step = _times(STRIDE, point, a24, n)
    start, end = max(1, bound // STRIDE), bound * SECOND_STAGE // STRIDE
    before = _times(start, step, a24, n)
    here = _times(start + 1, step, a24, n)
    product = 1
    offsets = _offsets(start + 1, end)
    for each in offsets:
        x, z = here
        for i in each:
            near_x, near_z = near[i]
            product = product * (x * near_z - near_x * z) % n
        before, here = here, _add(here, step, before, n)
    return math.gcd(product, n)


@cache
def _offsets(start: int, end: int) -> list[list[int]]:
    """For each multiple of the stride, how far from it there are primes, to either side."""
    primes = set(_primes(STRIDE * (end + 1)))
    return [
        [i for i in range(1, STRIDE // 2 + 1, 2) if k - i in primes or k + i in primes]
        for k in range(start * STRIDE, end * STRIDE, STRIDE)
    ]


@cache
def _primes(limit: int) -> list[int]:
    sieve = bytearray(b"\1") * (limit + 1)
    for i in range(2, math.isqrt(limit) + 1):
        if sieve[i]:
            sieve[i * i :: i] = bytes(len(range(i * i, limit + 1, i)))
    return [i for i in range(2, limit + 1) if sieve[i]]


def _double(point: Point, a24: int, n: int) -> Point:
    x, z = point
    plus, minus = (x + z) ** 2 % n, (x - z) ** 2 % n
    four = plus - minus
    return plus * minus % n, four * (minus + a24 * four) % n


def _add(left: Point, right: Point, difference: Point, n: int) -> Point:
    """The sum of two points whose difference is known."""
    (a, b), (c, d) = left, right
    u, v = (a - b) * (c + d), (a + b) * (c - d)
    return (u + v) ** 2 * difference[1] % n, (u - v) ** 2 * difference[0] % n


def _times(count: int, point: Point, a24: int, n: int) -> Point:
    """A multiple of a point, by Montgomery's ladder."""
    if count == 1:
        return point
    low, high = point, _double(point, a24, n)
    for bit in bin(count)[3:]:
        both = _add(low, high, point, n)
        if bit == "1":
            low, high = both, _double(high, a24, n)
        else:
            low, high = _double(low, a24, n), both
    return low
