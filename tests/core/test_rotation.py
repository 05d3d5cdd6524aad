"""The rotation: the line of the highest priority comes first."""

from __future__ import annotations

from dte.core.rotation import Rotation


def test_the_highest_priority_that_has_members_comes_first() -> None:
    rotation: Rotation[str] = Rotation()
    assert rotation.highest() is None
    for priority, member in ((0, "a"), (5, "b"), (-1, "c"), (5, "d")):
        rotation.line(priority).append(member)
    assert [list(line) for line in rotation] == [["b", "d"], ["a"], ["c"]]
    taken = []
    while (line := rotation.highest()) is not None:
        taken.append((rotation.priority, line.popleft()))
    assert taken == [(5, "b"), (5, "d"), (0, "a"), (-1, "c")]
    assert rotation.lines == {}


def test_nobody_waits_after_it_is_cleared() -> None:
    rotation: Rotation[str] = Rotation()
    rotation.line(1).append("a")
    rotation.clear()
    assert (rotation.highest(), list(rotation)) == (None, [])
    rotation.line(1).append("b")
    assert list(rotation.line(1)) == ["b"]
