"""Write the generated parts of architecture.md and its picture: `python docs/architecture.py`. A test compares them.

The picture is drawn from the imports of the code, the tables from its docstrings. The layout is computed here, not by Graphviz:
the test needs nothing installed, and the result is the same on every machine.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from taxi_assets_tests.imports import LAYERS, PACKAGE, internal, parse_package, row, top  # noqa: E402

PAGE = Path(__file__).with_name("architecture.md")
PICTURE = Path(__file__).parent / "images" / "architecture.svg"

PATH = (
    ("core/month.py", "Month.parse", "The partition key becomes a month."),
    ("assets/raw_trips.py", "load_raw_month", "The asset `raw_trips`."),
    ("publisher/source.py", "TripSource.fetch", ""),
    ("publisher/reader.py", "open_trips", ""),
    ("core/staging.py", "stage", ""),
    (
        "lake/io_manager.py",
        "LakeIOManager.replace",
        "The IO manager of `raw_trips`, `clean_trips` and `rejected_trips`.",
    ),
    ("lake/cleaning.py", "clean_month", "The asset `clean_trips`."),
    ("lake/cleaning.py", "split", ""),
    ("sinks/contract.py", "MonthSink.handle_output", "The IO manager of every sink."),
    ("sinks/postgres/io_manager.py", "PostgresIOManager.replace", "One sink; the others have the same three methods."),
    ("sinks/contract.py", "MonthSink.measure", "The check `postgres_table_matches_clean`."),
)
"""The path of a month: file, function, and what to say before the function's own sentence."""

HIDDEN = {"__main__"}
"""Not shown: it only calls `cli`."""


# The tables


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def first_paragraph(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


def parsed(file: str) -> ast.Module:
    """A file of the package."""
    return ast.parse((REPOSITORY / PACKAGE / file).read_text(encoding="utf-8"))


def definition(file: str, name: str) -> ast.ClassDef | ast.FunctionDef:
    """A class, function or method by its qualified name.

    Raises:
        LookupError: the file does not define it.
    """
    node: ast.AST = parsed(file)
    for part in name.split("."):
        found = [n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == part]
        if not found:
            raise LookupError(f"{PACKAGE}/{file} does not define {name}: correct PATH in docs/architecture.py")
        node = found[0]
    assert isinstance(node, (ast.ClassDef, ast.FunctionDef))
    return node


def link(path: str, text: str) -> str:
    """A link to a file or folder of the package."""
    return f"[{text}](../{PACKAGE}/{path})"


def packages() -> str:
    """The packages and modules right below `taxi_assets`, highest first."""
    graph = package_imports()
    rows = []
    for name in (name for names in reversed(LAYERS) for name in names if name not in HIDDEN):
        folder = (REPOSITORY / PACKAGE / name).is_dir()
        file = f"{name}/__init__.py" if folder else f"{name}.py"
        uses = ", ".join(f"`{other}`" for other in sorted(graph[name], key=lambda other: (row(other), other)))
        rows.append((link(name if folder else file, f"`{name}`"), first_paragraph(parsed(file)), uses))
    return table(("", "what it is", "imports"), rows)


def path() -> str:
    """The functions a month passes, in order."""
    rows = []
    for number, (file, name, introduction) in enumerate(PATH, 1):
        sentence = " ".join(filter(None, [introduction, first_paragraph(definition(file, name))]))
        rows.append((str(number), f"`{name}`", link(file, file), sentence))
    return table(("", "function", "file", "what it does"), rows)


def sinks() -> str:
    """The packages of the sinks."""
    folders = sorted(file.parent for file in (REPOSITORY / PACKAGE / "sinks").glob("*/__init__.py"))
    return table(
        ("package", "what it is"),
        [
            (link(f"sinks/{each.name}", f"`{each.name}`"), first_paragraph(parsed(f"sinks/{each.name}/__init__.py")))
            for each in folders
        ],
    )


SECTIONS = {f.__name__: f for f in (packages, path, sinks)}


def rendered(page: str) -> str:
    """The page with new contents between its `<!-- name -->` and `<!-- end -->` marks."""

    def section(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{SECTIONS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", section, page, flags=re.DOTALL)


# The picture


def package_imports() -> dict[str, set[str]]:
    """What each package or module right below `taxi_assets` imports of the others."""
    graph: dict[str, set[str]] = {name: set() for names in LAYERS for name in names}
    for module, names in internal(parse_package()).items():
        if module:
            graph[top(module)] |= {top(name) for name in names if name} - {top(module)}
    return graph


def drawn_edges(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports without those that follow from others: `cli -> core` is left out where `cli -> status -> core`."""
    down = {name: {other for other in others if row(other) < row(name)} for name, others in graph.items()}

    def below(name: str) -> set[str]:
        return down[name] | {deep for other in down[name] for deep in below(other)}

    edges = []
    for name, others in graph.items():
        implied = {deep for other in down[name] for deep in below(other)}
        edges += [(name, other) for other in sorted(others) if other not in implied]
    return [edge for edge in edges if not HIDDEN & set(edge)]


WIDTH, MARGIN = 800, 16
BOX, HEIGHT, PITCH, GAP = 108, 34, 74, 20
"""Pixels: the width and height of a box, from one row to the next, and between neighbors."""
LANE = 4
"""Width of the lane of an arrow that passes a row."""

Node = str | tuple[str, str, int]
"""A box, or where an arrow (from, to) passes a row."""


class Layout:
    """Rows of boxes with few crossing arrows: each arrow has a lane in the rows between, ordered by its neighbors' mean."""

    def __init__(self, edges: list[tuple[str, str]]) -> None:
        names = [[name for name in names if name not in HIDDEN] for names in reversed(LAYERS)]
        self.rows: list[list[Node]] = [list(row) for row in names if row]
        self.row_of = {name: number for number, row in enumerate(self.rows) for name in row}
        self.routes = {edge: self._route(*edge) for edge in edges}
        self._neighbors: dict[Node, list[Node]] = defaultdict(list)
        for route in self.routes.values():
            for one, other in pairwise(route):
                self._neighbors[one].append(other)
                self._neighbors[other].append(one)
        self.x: dict[Node, float] = {}
        best = None
        for attempt in range(24):
            self._order(down=attempt % 2 == 0)
            count = self._crossings()
            if best is None or count < best[0]:
                best = count, [list(row) for row in self.rows]
        assert best is not None
        self.rows = best[1]
        self._place()

    def _route(self, source: str, target: str) -> list[Node]:
        start, end = self.row_of[source], self.row_of[target]
        between = range(start + 1, end) if start < end else range(start - 1, end, -1)
        lanes: list[Node] = [(source, target, number) for number in between]
        for lane, number in zip(lanes, between, strict=True):
            self.rows[number].append(lane)
        return [source, *lanes, target]

    def _order(self, *, down: bool) -> None:
        """Order each row by the mean position of the neighbors in the row before."""
        sequence = list(range(len(self.rows)))
        for before, number in pairwise(sequence if down else reversed(sequence)):
            at = {node: (i + 1) / (len(self.rows[before]) + 1) for i, node in enumerate(self.rows[before])}
            own = {node: (i + 1) / (len(self.rows[number]) + 1) for i, node in enumerate(self.rows[number])}

            def mean(node: Node, at: dict = at, own: dict = own) -> float:
                places = [at[other] for other in self._neighbors[node] if other in at]
                return sum(places) / len(places) if places else own[node]

            self.rows[number].sort(key=lambda node: (mean(node), own[node]))

    def _crossings(self) -> int:
        at = {node: i for row in self.rows for i, node in enumerate(row)}
        where = {node: number for number, row in enumerate(self.rows) for node in row}
        steps: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for route in self.routes.values():
            for one, other in pairwise(route):
                high, low = sorted((one, other), key=where.__getitem__)
                steps[where[high]].append((at[high], at[low]))
        return sum(
            (a - c) * (b - d) < 0 for each in steps.values() for i, (a, b) in enumerate(each) for c, d in each[:i]
        )

    def _place(self) -> None:
        """Move every node toward the mean of its neighbors, lanes above all, as far as its own row leaves room."""
        for nodes in self.rows:
            self._spread(nodes, {node: WIDTH * (i + 0.5) / len(nodes) for i, node in enumerate(nodes)})
        for attempt in range(200):
            for nodes in self.rows if attempt % 2 else reversed(self.rows):
                wanted = {}
                for node in nodes:
                    weights = {other: 1 if isinstance(other, str) else 8 for other in self._neighbors[node]}
                    total = sum(weight * self.x[other] for other, weight in weights.items())
                    wanted[node] = total / sum(weights.values()) if weights else self.x[node]
                self._spread(nodes, wanted)
        shift = (WIDTH - min(self.x.values()) - max(self.x.values())) / 2
        self.x = {node: x + shift for node, x in self.x.items()}

    def _spread(self, nodes: list[Node], wanted: dict[Node, float]) -> None:
        """Place the nodes of a row near where they should be, in their order and with a gap between them."""
        half = [(BOX if isinstance(node, str) else LANE) / 2 for node in nodes]
        room = [one + other + GAP for one, other in pairwise(half)]
        left, right = [], []
        for i, node in enumerate(nodes):
            left.append(max(wanted[node], left[-1] + room[i - 1]) if left else max(wanted[node], MARGIN + half[i]))
        for i in reversed(range(len(nodes))):
            most = right[-1] - room[i] if right else WIDTH - MARGIN - half[i]
            right.append(min(wanted[nodes[i]], most))
        right.reverse()
        middle = [(one + other) / 2 for one, other in zip(left, right, strict=True)]
        for i in range(1, len(nodes)):
            middle[i] = max(middle[i], middle[i - 1] + room[i - 1])
        over = max(0.0, middle[-1] + half[-1] + MARGIN - WIDTH) if nodes else 0.0
        for i in reversed(range(len(nodes))):
            most = middle[i + 1] - room[i] if i + 1 < len(nodes) else WIDTH
            self.x[nodes[i]] = middle[i] = min(middle[i] - (over if i + 1 == len(nodes) else 0), most)


STYLE = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; text-anchor: middle; fill: #1f2328 }
  rect { fill: #ddf4ff; stroke: #0969da } rect.module { fill: #f6f8fa; stroke: #818b98 }
  path { fill: none; stroke: #59636e; stroke-width: 1.3 } marker path { fill: #59636e; stroke: none }
  path.upward { stroke: #cf222e; stroke-dasharray: 5 4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } rect { fill: #121d2f; stroke: #4493f8 } rect.module { fill: #212830; stroke: #656c76 }
    path { stroke: #9198a1 } marker path { fill: #9198a1 } path.upward { stroke: #f85149 }
  }
"""


def picture() -> str:
    """The picture as SVG."""
    edges = drawn_edges(package_imports())
    layout = Layout(edges)
    y = {name: MARGIN + number * PITCH for name, number in layout.row_of.items()}
    height = 2 * MARGIN + (len(layout.rows) - 1) * PITCH + HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="The packages of {PACKAGE} and their imports">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    lines += [curve(layout, edge, y) for edge in edges]
    for name in layout.row_of:
        kind = "" if (REPOSITORY / PACKAGE / name).is_dir() else ' class="module"'
        x = layout.x[name]
        lines.append(
            f'<rect{kind} x="{x - BOX / 2:.0f}" y="{y[name]}" width="{BOX}" height="{HEIGHT}" rx="6"/>'
            f'<text x="{x:.0f}" y="{y[name] + HEIGHT / 2 + 5:.0f}">{name}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def curve(layout: Layout, edge: tuple[str, str], y: dict[str, int]) -> str:
    """An arrow from the lower edge of a box to the upper edge of another, or the other way round."""
    source, target = edge
    route = layout.routes[edge]
    down = y[source] < y[target]
    points = [(port(layout, source, edge), y[source] + HEIGHT * down)]
    for node in route[1:-1]:
        top_of_row = MARGIN + int(node[2]) * PITCH
        ends = [top_of_row, top_of_row + HEIGHT]
        points += [(layout.x[node], end) for end in (ends if down else reversed(ends))]
    points.append((port(layout, target, edge), y[target] + HEIGHT * (not down)))
    text = f"M{points[0][0]:.0f} {points[0][1]}"
    for (x1, y1), (x2, y2) in pairwise(points):
        middle = (y1 + y2) / 2
        straight = abs(x1 - x2) < 0.5
        text += f"V{y2}" if straight else f"C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2}"
    kind = "" if down else ' class="upward"'
    return f'<path{kind} d="{text}" marker-end="url(#arrow)"><title>{source} imports {target}</title></path>'


def port(layout: Layout, name: str, edge: tuple[str, str]) -> float:
    """Where an arrow meets a box: side by side, in the order of where the arrows go."""
    ends: Iterator[tuple[tuple[str, str], Node]] = (
        (other, route[1] if other[0] == name else route[-2]) for other, route in layout.routes.items() if name in other
    )
    side = [(layout.x[node], other) for other, node in ends if (other[0] == name) == (edge[0] == name)]
    order = [other for _, other in sorted(side)]
    step = min(16, (BOX - 20) / max(1, len(order)))
    return layout.x[name] + (order.index(edge) - (len(order) - 1) / 2) * step


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
