"""Arguments with references, as JSON with gaps for the results."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


def _offsets() -> array[int]:
    return array("I")


@dataclass(slots=True, eq=False)
class JsonTemplate:
    """JSON with gaps, each of which gets the result of a call.

    It takes no more memory than the JSON with the references did, whatever is in it.

    Attributes:
        text: the JSON without the references.
        names: the names of the calls whose results go in.
        gaps: the ascending offsets in `text` where results go.
        sources: for each gap the index of its call in `names`.
    """

    text: bytes
    names: tuple[str, ...] = ()
    gaps: array[int] = field(default_factory=_offsets)
    sources: array[int] = field(default_factory=_offsets)

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """The JSON with a value in each gap."""
        text = self.text
        results = [values[name] for name in self.names]
        parts: list[bytes] = []
        at = 0
        for gap, source in zip(self.gaps, self.sources, strict=True):
            parts += (text[at:gap], results[source])
            at = gap
        parts.append(text[at:])
        return b"".join(parts)

    def references(self) -> Iterator[str]:
        """The name for each gap."""
        names = self.names
        return (names[source] for source in self.sources)

    def renamed(self, names: Mapping[str, str]) -> JsonTemplate:
        """The same with other names for calls; each call keeps its name that is not a key."""
        known = tuple(names.get(name, name) for name in self.names)
        return JsonTemplate(self.text, known, self.gaps, self.sources)

    def key(self) -> tuple[object, ...]:
        """A value that is equal for templates that give the same JSON for the same results."""
        return self.text, self.gaps.tobytes(), tuple(self.references())
