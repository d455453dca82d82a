"""STTM, plainly (2507.07990): a quadtree per frame, then a union of alike nodes of consecutive frames."""

from __future__ import annotations

from tests.reference.holitom import cosine

Vector = list[float]
Cell = tuple[int, int, int]
Box = tuple[int, int, int, int]


def parts_of(side: int, levels: int) -> list[list[tuple[int, int]]]:
    """Intervals [from, to) of one side, finest level first; an odd number of them leaves the first alone."""
    rows = [[(cell, cell + 1) for cell in range(side)]]
    for _ in range(levels):
        below = rows[-1]
        lone = len(below) % 2
        pairs = [(below[i][0], below[i + 1][1]) for i in range(lone, len(below), 2)]
        rows.append(below[:lone] + pairs)
    return rows


def halvings(height: int, width: int, root: int) -> int:
    steps = 0
    while height > 2 and width > 2:
        height, width, steps = -(-height // 2), -(-width // 2), steps + 1
    return max(0, steps - root)


def mean(tokens: list[int], hidden: list[Vector], size: list[float]) -> Vector:
    total = sum(size[t] for t in tokens)
    return [sum(size[t] * hidden[t][c] for t in tokens) / total for c in range(len(hidden[0]))]


def leaves_of_frame(
    frame: int,
    at: dict[Cell, int],
    height: int,
    width: int,
    hidden: list[Vector],
    size: list[float],
    tau: float,
    root: int,
) -> list[list[int]]:
    """Tokens of each leaf."""
    levels = halvings(height, width, root)
    rows, columns = parts_of(height, levels), parts_of(width, levels)

    def inside(box: Box) -> list[int]:
        cells = ((frame, r, c) for r in range(box[0], box[1]) for c in range(box[2], box[3]))
        return [at[cell] for cell in cells if cell in at]

    def children(level: int, box: Box) -> list[Box]:
        return [
            (*r, *c)
            for r in rows[level - 1]
            for c in columns[level - 1]
            if box[0] <= r[0] and r[1] <= box[1] and box[2] <= c[0] and c[1] <= box[3] and inside((*r, *c))
        ]

    def visit(level: int, box: Box) -> list[list[int]]:
        parts = children(level, box) if level else []
        if len(parts) == 1:
            return visit(level - 1, parts[0])
        whole = mean(inside(box), hidden, size)
        if all(cosine(whole, mean(inside(part), hidden, size)) >= tau for part in parts):
            return [inside(box)]
        return [leaf for part in parts for leaf in visit(level - 1, part)]

    roots = [(*r, *c) for r in rows[levels] for c in columns[levels] if inside((*r, *c))]
    return [leaf for box in roots for leaf in visit(levels, box)]


Node = tuple[list[int], Vector]


def published_leaves(
    frame: int, at: dict[Cell, int], height: int, width: int, hidden: list[Vector], tau: float, root: int
) -> list[Node]:
    """Tokens and value of each leaf as the released code cuts a frame.

    A block's value is the mean of its parts' values. A block that has fewer than four parts is compared with the first
    block of its parts' level too, however far away that lies.
    """
    levels = halvings(height, width, root)
    rows, columns = parts_of(height, levels), parts_of(width, levels)

    def inside(box: Box) -> list[int]:
        cells = ((frame, r, c) for r in range(box[0], box[1]) for c in range(box[2], box[3]))
        return [at[cell] for cell in cells if cell in at]

    def blocks_of(level: int, box: Box) -> list[Box]:
        boxes = [(*r, *c) for r in rows[level] for c in columns[level]]
        within = [b for b in boxes if box[0] <= b[0] and b[1] <= box[1] and box[2] <= b[2] and b[3] <= box[3]]
        return [b for b in within if inside(b)]

    def value(level: int, box: Box) -> Vector:
        if level == 0:
            return hidden[inside(box)[0]]
        below = [value(level - 1, part) for part in blocks_of(level - 1, box)]
        return [sum(column) / len(below) for column in zip(*below, strict=True)]

    def first_block(level: int) -> Box:
        first = min(token for cell, token in at.items() if cell[0] == frame)
        return next(box for box in blocks_of(level, (0, height, 0, width)) if first in inside(box))

    def visit(level: int, box: Box) -> list[Node]:
        own = value(level, box)
        if level == 0:
            return [(inside(box), own)]
        parts = blocks_of(level - 1, box)
        others = [value(level - 1, part) for part in parts]
        if len(parts) < 4:
            others.append(value(level - 1, first_block(level - 1)))
        if all(cosine(own, other) >= tau for other in others):
            return [(inside(box), own)]
        return [leaf for part in parts for leaf in visit(level - 1, part)]

    return [leaf for box in blocks_of(levels, (0, height, 0, width)) for leaf in visit(levels, box)]


def published_pairs(nodes: list[Node], cells: list[Cell], tau_time: float) -> list[tuple[int, int]]:
    """Earlier and later node of each pair that shares a place in consecutive frames and is alike."""
    node_of = {token: number for number, (tokens, _) in enumerate(nodes) for token in tokens}
    last: dict[tuple[int, int], int] = {}
    found = set()
    for token, (_, row, column) in enumerate(cells):
        if (row, column) in last:
            found.add((node_of[last[row, column]], node_of[token]))
        last[row, column] = token
    return [(a, b) for a, b in sorted(found) if cosine(nodes[a][1], nodes[b][1]) >= tau_time]


def published_groups(
    hidden: list[Vector], cells: list[Cell], tau: float, tau_time: float | None, root: int = 1
) -> list[Node]:
    """Tokens and value of each group as the released code unites nodes: the mean of the nodes' values.

    In a round every pair lowers the names of both ends to the lower one they had, and then each node takes the name
    that the node it is named after has. Rounds end once all names are those of nodes named after themselves.
    """
    at = {cell: token for token, cell in enumerate(cells)}
    height, width = (1 + max(cell[axis] for cell in cells) for axis in (1, 2))
    frames = sorted({cell[0] for cell in cells})
    nodes = [leaf for f in frames for leaf in published_leaves(f, at, height, width, hidden, tau, root)]
    nodes.sort(key=lambda node: min(node[0]))
    pairs = [] if tau_time is None else published_pairs(nodes, cells, tau_time)
    name = list(range(len(nodes)))
    while True:
        lower = list(name)
        for a, b in pairs:
            low = min(name[a], name[b])
            lower[a], lower[b] = min(lower[a], low), min(lower[b], low)
        name = [lower[lower[node]] for node in range(len(nodes))]
        if all(name[own] == own for own in name):
            break
    found = []
    for own in sorted(set(name)):
        members = [nodes[node] for node in range(len(nodes)) if name[node] == own]
        value = [sum(column) / len(members) for column in zip(*(value for _, value in members), strict=True)]
        found.append((sorted(token for tokens, _ in members for token in tokens), value))
    return found


def groups(
    hidden: list[Vector], size: list[float], cells: list[Cell], tau: float, tau_time: float | None, root: int = 1
) -> list[list[int]]:
    """Tokens of each node of one clip after both steps, ordered by their first token."""
    at = {cell: token for token, cell in enumerate(cells)}
    height, width = (1 + max(cell[axis] for cell in cells) for axis in (1, 2))
    frames = sorted({cell[0] for cell in cells})
    nodes = [leaf for f in frames for leaf in leaves_of_frame(f, at, height, width, hidden, size, tau, root)]
    label = list(range(len(nodes)))
    node_of = {token: number for number, node in enumerate(nodes) for token in node}
    for token, (frame, row, column) in enumerate(cells):
        earlier = [at[(f, row, column)] for f in frames if f < frame and (f, row, column) in at]
        if not earlier or tau_time is None:
            continue
        a, b = node_of[earlier[-1]], node_of[token]
        if cosine(mean(nodes[a], hidden, size), mean(nodes[b], hidden, size)) >= tau_time:
            low, high = sorted((label[a], label[b]))
            label = [low if value == high else value for value in label]
    united: dict[int, list[int]] = {}
    for number, node in enumerate(nodes):
        united.setdefault(label[number], []).extend(node)
    return sorted((sorted(group) for group in united.values()), key=lambda group: group[0])
