"""Whether missions and dungeons can be finished, by trying everything: written without the code that it checks.

The state is the room, the set of rooms in which everything was done, and the set of opened locks. Nothing is merged and
nothing is left out, so only small missions can be tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

State = tuple[str, frozenset[str], frozenset[frozenset[str]]]


def _after(graph, state: State) -> Iterator[State]:
    room, done, opened = state
    keys = sum("k" in graph.nodes[each] for each in done) - len(opened)
    switches = any("S" in labels or "S1" in labels for labels in graph.nodes.values())
    labels_of = {(edge.source, edge.target): edge.labels for edge in graph.edges}
    for (source, target), labels in labels_of.items():
        if source != room:
            continue
        now, passable = opened, True
        for label in labels - {"k"}:
            if label == "s":
                passable = False
            elif label in ("K", "I"):
                passable &= any(label in graph.nodes[each] for each in done)
            elif label == "b":
                passable &= graph.bombs or any("i" in graph.nodes[each] for each in done)
            elif label == "S":
                passable &= any(("S" if switches else "p") in graph.nodes[each] for each in done)
            elif label == "l":
                passable &= bool(graph.nodes[room] - {"s", "t"}) or "l" in labels_of.get((target, source), ())
            else:
                raise AssertionError(label)
        if "k" in labels and frozenset((source, target)) not in opened:
            passable &= keys > 0
            now = opened | {frozenset((source, target))}
        if passable:
            yield target, done | {target}, now


def everything(graph) -> tuple[bool, bool]:
    """Whether a goal can be reached, and whether a player can get stuck before one."""
    begin: State = (graph.start, frozenset({graph.start}), frozenset())
    after: dict[State, list[State]] = {}
    queue = deque([begin])
    while queue:
        state = queue.popleft()
        if state in after:
            continue
        after[state] = [] if "t" in graph.nodes[state[0]] else list(_after(graph, state))
        queue.extend(after[state])
    good = {state for state in after if "t" in graph.nodes[state[0]]}
    solvable = bool(good)
    while True:
        more = {state for state, following in after.items() if state not in good and not good.isdisjoint(following)}
        if not more:
            return solvable, len(good) < len(after)
        good |= more
