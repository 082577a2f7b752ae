"""Which readings stand: the chain with the most mutually admissible readings (the rules page, section 4, 2 to 4).

Two readings are admissible to each other when those of one instant are equal, and the advance between consecutive ones is
neither negative nor excessive. A fixed reading (a Day was closed out as actual on it) is in the chain whatever comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from metering.volumes import Verdict


class Node(NamedTuple):
    """One value at one instant: how many readings say so, when the first of them was received, in the batch of which Day.

    `judged` is the Day whose rules judge the advance that ends here: the Day that a boundary ends, or holds the reading.
    """

    at_us: int
    ticks: int
    received_us: int
    day: int
    judged: int
    weight: int = 1
    fixed: bool = False


Admit = Callable[[Node, Node], Verdict]


def admissible_throughout(nodes: Sequence[Node], admit: Admit) -> bool:
    """Whether all nodes, in the order of their instants, stand together: the usual case, in one pass."""
    for n in range(1, len(nodes)):
        before, after = nodes[n - 1], nodes[n]
        if before.at_us == after.at_us or (admit(before, after) and not (before.fixed and after.fixed)):
            return False
    return True


def standing(nodes: Sequence[Node], admit: Admit) -> list[Node]:
    """The nodes that stand, in the order of their instants.

    Most readings win; of equals, the chain whose first differing reading was received first (then: of the earlier Day's
    batch, then the smaller index).
    """
    ordered = sorted(nodes, key=lambda node: (node.at_us, node.received_us, node.day, node.ticks))
    if admissible_throughout(ordered, admit):
        return ordered
    chain: list[Node] = []
    before: Node | None = None
    between: list[Node] = []
    for node in ordered:
        if node.fixed:
            chain += [*_through(before, between, node, admit), node]
            before, between = node, []
        else:
            between.append(node)
    return chain + _through(before, between, None, admit)


def _through(before: Node | None, nodes: Sequence[Node], after: Node | None, admit: Admit) -> list[Node]:
    """The best chain of these nodes that `before` may begin and `after` may end, found from its end backwards."""
    weight: list[int | None] = [None] * len(nodes)  # of the best chain that begins with the node; None: `after` is out of reach
    most = [0] * (len(nodes) + 1)  # the greatest of these weights from the node on
    follower: list[int | None] = [None] * len(nodes)
    for n in range(len(nodes) - 1, -1, -1):
        follower[n] = follow = _best(nodes, weight, most, n + 1, nodes[n], admit)
        if follow is not None:
            weight[n] = nodes[n].weight + (weight[follow] or 0)
        elif after is None or _may_follow(nodes[n], after, admit):
            weight[n] = nodes[n].weight
        most[n] = max(most[n + 1], weight[n] or 0)
    chain: list[Node] = []
    at = _best(nodes, weight, most, 0, before, admit)
    while at is not None:
        chain.append(nodes[at])
        at = follower[at]
    return chain


def _best(
    nodes: Sequence[Node], weight: Sequence[int | None], most: Sequence[int], first: int, before: Node | None, admit: Admit
) -> int | None:
    """Which of the nodes from `first` on begins the best chain that may follow `before`; None where there is none. It looks no
    farther than where a chain as good can begin, so that a meter that is wrong every Day does not cost its days squared."""
    best: int | None = None
    rank: tuple[int, ...] = ()
    for n in range(first, len(nodes)):
        mine = weight[n]
        if best is not None and most[n] < -rank[0]:
            break
        if mine is None or (before is not None and not _may_follow(before, nodes[n], admit)):
            continue
        node = nodes[n]
        candidate = (-mine, node.received_us, node.day, node.ticks, node.at_us)
        if best is None or candidate < rank:
            best, rank = n, candidate
    return best


def _may_follow(before: Node, after: Node, admit: Admit) -> bool:
    return before.at_us != after.at_us and not admit(before, after)
