"""The built-in handlers, which every worker has."""

from __future__ import annotations

import asyncio
import math
import os
import time
from typing import Any, Literal, get_args

from dte.handlers.factoring import factors
from dte.handlers.registry import handler

PI_TERMS_MAX = 1000
PRIMES_LIMIT_MAX = 100_000_000
"""The cap of `primes`, unless PRIMES_MAX_LIMIT in the environment sets another."""

LIMIT_DEFAULT = 100_000
"""The limit of `compute` if none is given."""

Method = Literal["sieve", "trial_division"]
METHODS = get_args(Method)


@handler("echo", pure=True)
def echo(value: Any) -> Any:
    """Return the argument."""
    return value


@handler("sleep")
async def sleep(seconds: float) -> float:
    """Wait for some seconds, and return their number."""
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds must be 0 or more, not {seconds}")
    await asyncio.sleep(seconds)
    return seconds


@handler("fibonacci", pure=True)
def fibonacci(n: int) -> int:
    """Return the n-th Fibonacci number, exact at any size: 0, 1, 1, 2, 3, 5, …"""
    if n < 0:
        raise ValueError(f"n must be 0 or more, not {n}")
    low, high = 0, 1  # F(k) and F(k + 1), where the bits so far are those of k.
    for bit in bin(n)[2:]:
        low, high = low * (2 * high - low), low * low + high * high
        if bit == "1":
            low, high = high, low + high
    return low


@handler("prime_factorization", pure=True)
def prime_factorization(n: int) -> list[int]:
    """Return the prime factors of n, ascending and with repetition.

    Numbers with large factors take long, unless python-flint is installed: see
    `dte.handlers.factoring`.
    """
    if n < 2:
        raise ValueError(f"n must be 2 or more, not {n}")
    return factors(n)


@handler("primes", pure=True)
def primes(limit: int, method: Method | None = None) -> list[int]:
    """Return the primes up to and including a limit.

    Args:
        limit: the limit, capped at PRIMES_MAX_LIMIT of the environment or 100,000,000.
        method: ``sieve`` or ``trial_division``; the default is PRIMES_DEFAULT_METHOD of the
            environment or ``sieve``.
    """
    method = method or _default_method()
    return (_sieve if method == "sieve" else _trial_division)(min(limit, _limit_max()))


@handler("compute")
def compute(
    limit: int | float | None = LIMIT_DEFAULT, method: Any = None, **ignored: Any
) -> dict[str, Any]:
    """Return the primes up to a limit, see `primes`, with the computing time in seconds.

    It takes what workers of the queue's dialect take: any other method is the default, and further
    fields, such as `type` for the kind of the task, are ignored.
    """
    if limit is None:
        limit = LIMIT_DEFAULT
    if int(limit) != limit:
        raise ValueError(f"limit must be a whole number, not {limit}")
    limit = int(limit)
    if method not in METHODS:
        method = _default_method()
    start_s = time.perf_counter()
    found = primes(limit, method)
    result = {
        "status": "completed",
        "primes": found,
        "computation_time": round(time.perf_counter() - start_s, 6),
        "method": method,
    }
    cap = _limit_max()
    if limit > cap:
        result["warning"] = f"the limit {limit} is capped at {cap}"
        result["requested_limit"] = limit
    return result


handler("prime")(compute)


@handler("process_data", pure=True)
def process_data(x: Any, y: Any) -> Any:
    """Add two numbers, or join two texts or lists."""
    return x + y


@handler("send_email")
def send_email(recipient: str, subject: str, body: str) -> str:
    """Return a text that describes an email. Nothing is sent."""
    return f"Email sent to {recipient} with subject '{subject}'"


@handler("calculate_pi", pure=True)
def calculate_pi(n_digits: int) -> float:
    """Return the sum of terms of a series for pi (Bailey, Borwein, Plouffe), at most 1000."""
    total = 0.0
    for k in range(min(n_digits, PI_TERMS_MAX)):
        n = 8 * k
        term = 4 / (n + 1) - 2 / (n + 4) - 1 / (n + 5) - 1 / (n + 6)
        total += term * 16.0**-k
    return total


def _sieve(limit: int) -> list[int]:
    """Return the primes up to a limit by the sieve of Eratosthenes over odd numbers."""
    if limit < 2:
        return []
    half = (limit + 1) // 2  # Index i stands for the odd number 2i + 1, and index 0 for 2.
    is_prime = bytearray(b"\1") * half
    for i in range(1, (math.isqrt(limit) + 1) // 2):
        if is_prime[i]:
            prime = 2 * i + 1
            first = prime * prime // 2
            is_prime[first::prime] = bytes(len(range(first, half, prime)))
    return [2, *(2 * i + 1 for i in range(1, half) if is_prime[i])]


def _trial_division(limit: int) -> list[int]:
    found: list[int] = []
    for number in range(2, limit + 1):
        root = math.isqrt(number)
        for prime in found:
            if prime > root:
                found.append(number)
                break
            if number % prime == 0:
                break
        else:
            found.append(number)
    return found


def _limit_max() -> int:
    text = os.environ.get("PRIMES_MAX_LIMIT") or str(PRIMES_LIMIT_MAX)
    if not text.isdecimal():
        raise ValueError(f"PRIMES_MAX_LIMIT must be a number from 0, not {text!r}")
    return int(text)


def _default_method() -> Method:
    named = os.environ.get("PRIMES_DEFAULT_METHOD") or "sieve"
    return "trial_division" if named == "trial_division" else "sieve"
