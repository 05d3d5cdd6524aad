"""The free pages of a journal, by https://www.sqlite.org/fileformat2.html#the_freelist.

Free pages keep what they had, so rows on them are old ones.
"""

from __future__ import annotations

from collections.abc import Collection

from dte.master.salvage.pages import Pages


class FreePages:
    """The free pages of a journal, as far as their list can be followed.

    Attributes:
        numbers: the free pages that are known.
        missing: the number of those that are not; None if nobody knows.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.numbers: set[int] = set()
        number = pages.header_number(32)
        while number and number not in self.numbers:
            listed = self._listed(number)
            if listed is None:
                break
            number, *others = listed
            self.numbers |= {*others}
        self.missing = pages.header_number(36) - len(self.numbers) if pages.header else None

    @property
    def is_whole(self) -> bool:
        return self.missing == 0

    def find_more(self, used: Collection[int]) -> None:
        """Find parts of a damaged list to which nothing leads, among pages that are not in use."""
        found: set[int] = set()
        for number in range(2, self._pages.count + 1):
            if number not in self.numbers and number not in used:
                listed = self._listed(number)
                if listed is not None and len(listed) > 2:
                    found |= {*listed[1:]}
        if self.missing is not None:
            self.missing -= len(found - self.numbers)
        self.numbers |= found

    def _listed(self, number: int) -> list[int] | None:
        """A page of the list: the number of the next one, then all that it has."""
        content = self._pages.read(number) if 2 <= number <= self._pages.count else None
        if content is None:
            return None
        count = int.from_bytes(content[4:8], "big")
        if not 0 <= count <= self._pages.usable // 4 - 2:
            return None
        numbers = [int.from_bytes(content[at : at + 4], "big") for at in range(8, 8 + 4 * count, 4)]
        after = int.from_bytes(content[:4], "big")
        all_of_them = [*numbers, number, *([after] if after else [])]
        if len({*all_of_them}) < len(all_of_them):
            return None
        if not all(2 <= each <= self._pages.count for each in all_of_them):
            return None
        return [after, number, *numbers]
