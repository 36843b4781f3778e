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


def tiles_can_be_finished(record: dict) -> bool:
    """Whether the dungeon of a file (its JSON) can be finished by walking from tile to tile.

    Tries each order of opening locks; between two of these, floods all tiles that can be walked to. Passages must ask
    for the same in both directions, except for shutters.
    """
    rooms = record["rooms"]
    passages = {(each["source"], each["target"]): each for each in record["passages"]}
    at_cell = {tuple(room["cell"]): name for name, room in rooms.items()}
    things = [(each["room"], each["row"], each["column"], each["label"]) for each in record["things"]]
    start = next(thing[:3] for thing in things if thing[3] == "s")
    tried = set()
    waiting = [frozenset()]
    while waiting:
        opened = waiting.pop()
        if opened in tried:
            continue
        tried.add(opened)
        seen, taken, locks, frontier = {start}, set(), set(), {start}
        while frontier:
            before, closed = len(taken), set()
            while frontier:
                place = frontier.pop()
                for near, passage in _near(rooms, at_cell, passages, place):
                    if near in seen:
                        continue
                    if passage is not None:
                        ends = frozenset((passage["source"], passage["target"]))
                        labels = set(passage["labels"])
                        if "k" in labels and ends not in opened:
                            locks.add(ends)
                            continue
                        undone = {thing for thing in things if thing[0] == place[0] and thing[3] != "t"} - taken
                        had = {thing[3] for thing in taken}
                        bombs = record["bombs"] or "i" in had
                        if (
                            (labels & {"K", "I", "S"}) - had
                            or ("b" in labels and not bombs)
                            or ("l" in labels and undone)
                        ):
                            closed.add(place)
                            continue
                    seen.add(near)
                    frontier.add(near)
            taken |= {thing for thing in things if thing[:3] in seen}
            if len(taken) > before:
                frontier = closed
        if any(thing[3] == "t" for thing in taken):
            return True
        if sum(thing[3] == "k" for thing in taken) > len(opened):
            waiting += [opened | {lock} for lock in locks]
    return False


def _near(rooms, at_cell, passages, place):
    room, row, column = place
    tiles = rooms[room]["tiles"]
    for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        there = row + down, column + right
        if not (0 <= there[0] < 16 and 0 <= there[1] < 11):
            continue
        if tiles[there[0]][there[1]] in "FODS-":
            yield (room, *there), None
        elif tiles[row][column] == "D" and (there[0] in (0, 15) if down else there[1] in (0, 10)):
            cell = rooms[room]["cell"]
            other = at_cell.get((cell[0] + down, cell[1] + right))
            passage = passages.get((room, other))
            if passage is not None and not passage["stairs"]:
                beyond = (15 - row if down else row), (10 - column if right else column)
                assert rooms[other]["tiles"][beyond[0]][beyond[1]] == "D", "a door without another side"
                yield (other, *beyond), passage
    if tiles[row][column] == "S":
        for (source, target), passage in passages.items():
            if source == room and passage["stairs"]:
                lines = rooms[target]["tiles"]
                yield next((target, y, x) for y in range(16) for x in range(11) if lines[y][x] == "S"), passage
