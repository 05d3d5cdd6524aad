"""Prime factors, by FLINT where python-flint is installed: ``pip install 'dte[flint]'``.

FLINT takes milliseconds for a number of 30 digits and seconds for 60 digits, whatever the factors.

Without FLINT, trial division finds primes below 2,000 and Pollard's rho method finds the others.
The answer is as exact, but the time grows with the square root of the second-largest prime factor:
two primes of 10 digits take 0.1 s, of 12 digits 0.5 s, of 15 digits 8 s, of 20 digits an hour.
Nothing here ends the search, so a call that may get such numbers needs a timeout.
"""

from __future__ import annotations

import math
from importlib import import_module
from importlib.metadata import version
from random import Random

SMALL = [p for p in range(2, 2000) if all(p % q for q in range(2, math.isqrt(p) + 1))]
DETERMINISTIC_BELOW = 3_317_044_064_679_887_385_961_981
"""Below this bound the first 13 primes are sufficient witnesses for the Miller-Rabin test."""
WITNESSES = 40
STEPS_PER_GCD = 512


def factors(n: int) -> list[int]:
    """Return the prime factors of n, at least 2, ascending and with repetition."""
    try:
        # Handlers also import from the current folder, and a flint.py there is something else.
        version("python-flint")
        # Imported on the first call, because it takes 50 ms and 12 MB in every process.
        flint = import_module("flint")
    except ImportError:
        return _factors_without_flint(n)
    powers = flint.fmpz(n).factor()
    return sorted(int(prime) for prime, exponent in powers for _ in range(exponent))


def _factors_without_flint(n: int) -> list[int]:
    found: list[int] = []
    for prime in SMALL:
        while n % prime == 0:
            found.append(prime)
            n //= prime
    chance = Random(n)
    composite_or_prime = [n] if n > 1 else []
    while composite_or_prime:
        n = composite_or_prime.pop()
        if is_prime(n):
            found.append(n)
        else:
            divisor = _divisor(n, chance)
            composite_or_prime += [divisor, n // divisor]
    return sorted(found)


def is_prime(n: int) -> bool:
    """Test whether n, at least 2, is prime. From 25 digits on, a wrong yes is possible (4**-40)."""
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
    return not any(_proves_composite(witness, n, odd, halvings) for witness in witnesses)


def _proves_composite(witness: int, n: int, odd: int, halvings: int) -> bool:
    power = pow(witness, odd, n)
    if power in (1, n - 1):
        return False
    for _ in range(halvings - 1):
        power = power * power % n
        if power == n - 1:
            return False
    return True


def _divisor(n: int, chance: Random) -> int:
    """Return a proper divisor of a composite number without small factors."""
    for exponent in range(2, n.bit_length() // 10 + 1):
        root = _root(n, exponent)
        if root**exponent == n:
            return root
    while True:
        divisor = _rho(n, chance)
        if divisor < n:
            return divisor


def _root(n: int, exponent: int) -> int:
    """Return the integer part of a root, by Newton's method from above."""
    if exponent == 2:
        return math.isqrt(n)
    x = 1 << -(-n.bit_length() // exponent)
    while True:
        closer = ((exponent - 1) * x + n // x ** (exponent - 1)) // exponent
        if closer >= x:
            return x
        x = closer


def _rho(n: int, chance: Random) -> int:
    """Return a divisor above 1 by Pollard's rho method in Brent's form; by bad luck n itself."""
    y, c = chance.randrange(1, n), chance.randrange(1, n)
    length = 1
    while True:
        x = y
        for _ in range(length):
            y = (y * y + c) % n
        done = 0
        while done < length:
            before, product = y, 1
            for _ in range(min(STEPS_PER_GCD, length - done)):
                y = (y * y + c) % n
                product = product * (x - y) % n
            if math.gcd(product, n) != 1:
                return _first_divisor(n, x, before, c)
            done += STEPS_PER_GCD
        length *= 2


def _first_divisor(n: int, x: int, y: int, c: int) -> int:
    """Repeat the last steps one by one and return the first divisor that they share with n."""
    divisor = 1
    while divisor == 1:
        y = (y * y + c) % n
        divisor = math.gcd(x - y, n)
    return divisor
