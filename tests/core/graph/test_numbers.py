from dte.core.graph.numbers import describe


def test_an_operation_is_described_as_people_write_it() -> None:
    assert describe("/", 1, 0) == "1 / 0"
    assert describe("*", 1e308, -10) == "1e+308 * -10"


def test_long_operands_are_cut() -> None:
    assert describe("/", 10**400, 3) == "1000000000…0000 (401 digits) / 3"
