"""Union-find: sets that grow together, of numbers.

In: pairs that belong together. Out: for each number the smallest of its set. Invariant: the order of the pairs changes nothing.
"""


class UnionFind:
    """Disjoint sets of numbers; the smallest number stands for its set."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        """Returns the smallest number of the set."""
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, first: int, second: int) -> None:
        """Makes two sets one."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low
