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


def nodes_of_clip(hidden: list[Vector], size: list[float], cells: list[Cell], tau: float, root: int) -> list[list[int]]:
    """Tokens of each leaf of all frames, ordered by their first token."""
    at = {cell: token for token, cell in enumerate(cells)}
    height, width = (1 + max(cell[axis] for cell in cells) for axis in (1, 2))
    frames = sorted({cell[0] for cell in cells})
    found = [leaf for f in frames for leaf in leaves_of_frame(f, at, height, width, hidden, size, tau, root)]
    return sorted((sorted(leaf) for leaf in found), key=lambda leaf: leaf[0])


def pairs_along_time(
    nodes: list[list[int]], hidden: list[Vector], size: list[float], cells: list[Cell], tau_time: float
) -> list[tuple[int, int]]:
    """Earlier and later node of each pair that shares a place in consecutive frames and is alike."""
    node_of = {token: number for number, node in enumerate(nodes) for token in node}
    last: dict[tuple[int, int], int] = {}
    found = set()
    for token, (_, row, column) in enumerate(cells):
        if (row, column) in last:
            found.add((node_of[last[row, column]], node_of[token]))
        last[row, column] = token
    means = [mean(node, hidden, size) for node in nodes]
    return [(a, b) for a, b in sorted(found) if cosine(means[a], means[b]) >= tau_time]


def published_groups(
    hidden: list[Vector], size: list[float], cells: list[Cell], tau: float, tau_time: float | None, root: int = 1
) -> list[tuple[list[int], Vector]]:
    """Tokens and value of each group as the released code unites nodes: the mean of the nodes' means.

    In a round every pair lowers the names of both ends to the lower one they had, and then each node takes the name
    that the node it is named after has. Rounds end once all names are those of nodes named after themselves.
    """
    nodes = nodes_of_clip(hidden, size, cells, tau, root)
    pairs = [] if tau_time is None else pairs_along_time(nodes, hidden, size, cells, tau_time)
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
        members = [node for node in range(len(nodes)) if name[node] == own]
        means = [mean(nodes[node], hidden, size) for node in members]
        value = [sum(column) / len(means) for column in zip(*means, strict=True)]
        found.append((sorted(token for node in members for token in nodes[node]), value))
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
