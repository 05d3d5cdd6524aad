from random import Random

import pytest

from dte.core.backoff import BACKOFF_FIRST_S, BACKOFF_MAX_S, backoff_s


@pytest.mark.parametrize("failures", range(1, 12))
def test_a_pause_is_twice_the_one_before_within_a_bound_and_at_least_half_is_kept(failures) -> None:
    whole_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (failures - 1))
    random = Random(1)
    pauses = [backoff_s(random, failures) for _ in range(1000)]
    assert min(pauses) >= whole_s / 2
    assert max(pauses) <= whole_s
    assert max(pauses) - min(pauses) > whole_s * 0.48, "they do not all come back together"


def test_the_first_pause_is_short_and_the_last_is_not_for_ever() -> None:
    random = Random(1)
    assert backoff_s(random, 1) <= BACKOFF_FIRST_S
    assert backoff_s(random, 10**6) <= BACKOFF_MAX_S


def test_the_same_seed_gives_the_same_pauses() -> None:
    def pauses(seed: int) -> list[float]:
        random = Random(seed)
        return [backoff_s(random, failures) for failures in range(1, 20)]

    assert pauses(1) == pauses(1)
    assert pauses(1) != pauses(2)
