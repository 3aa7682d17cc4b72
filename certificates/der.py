"""A bounded reader of BER and DER, which shows the tree of an untrusted file without recursion.

No Django here. It follows ITU-T X.690 §8.1 (tags, lengths, indefinite lengths, constructed strings), and reads only
what PKCS #12 needs. One `Budget` covers all trees of a file, because PKCS #12 packs trees inside octet strings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from certificates.diagnosis import Refusal

MAX_DEPTH: Final = 24
MAX_NODES: Final = 20_000

INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONSTRUCTED: Final = 0x20
BMP_STRING: Final = 0x1E
UTF8_STRING: Final = 0x0C
# Universal types that BER may cut into pieces: BIT STRING aside, whose pieces have a count of unused bits each.
_STRINGS: Final = frozenset({OCTET_STRING, UTF8_STRING, BMP_STRING, 0x13, 0x14, 0x16})


def context(number: int) -> int:
    """The identifier octet of a constructed, context-specific tag: [number]."""
    return 0xA0 | number


@dataclass
class Budget:
    """How many nodes the trees of one file may still have."""

    nodes: int = MAX_NODES

    def spend(self) -> None:
        self.nodes -= 1
        if self.nodes < 0:
            raise Refusal("limit_exceeded", what="the number of its parts", figure="more", limit=f"{MAX_NODES:,}")


@dataclass(eq=False)
class Node:
    """One value: its identifier octet, where its contents stand in `source`, and its children if it is constructed.

    `depth` is 1 for the outermost value of the file, and goes on counting inside octet strings. `number` has the
    further identifier octets of a tag number above 30.
    """

    tag: int
    source: bytes = field(repr=False)
    start: int
    end: int
    depth: int
    number: bytes = b""
    children: list[Node] = field(default_factory=list, repr=False)

    @property
    def constructed(self) -> bool:
        return bool(self.tag & CONSTRUCTED)

    @property
    def length(self) -> int:
        """Bytes of contents, without identifier and length octets."""
        return self.end - self.start

    def octets(self) -> bytes:
        """The contents of a string, whose constructed form (X.690 §8.7.3) is joined."""
        if not self.constructed:
            return self.source[self.start : self.end]
        parts: list[bytes] = []
        waiting = list(reversed(self.children))
        while waiting:
            node = waiting.pop()
            if node.constructed:
                waiting.extend(reversed(node.children))
            else:
                parts.append(node.source[node.start : node.end])
        return b"".join(parts)

    def integer(self, name: str) -> int:
        """The value of an INTEGER of any width; `name` is for the refusal."""
        if self.tag != INTEGER or self.length == 0:
            raise Refusal("damaged", place=f"{name} is not a number")
        return int.from_bytes(self.source[self.start : self.end], "big", signed=True)

    def oid(self, name: str) -> str:
        """The dotted form of an OBJECT IDENTIFIER of at most 64 octets."""
        if self.tag != OID or not 0 < self.length <= 64:
            raise Refusal("damaged", place=f"{name} is not an object identifier")
        arcs: list[int] = []
        value = 0
        for octet in self.source[self.start : self.end]:
            value = value << 7 | octet & 0x7F
            if not octet & 0x80:
                arcs.append(value)
                value = 0
        if not arcs:
            raise Refusal("damaged", place=f"{name} is not an object identifier")
        first = min(arcs[0] // 40, 2)
        return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))

    def child(self, index: int, tag: int, name: str) -> Node:
        """The child at `index`, which must carry `tag`; `name` is for the refusal."""
        if not self.constructed or index >= len(self.children) or self.children[index].tag != tag:
            raise Refusal("damaged", place=f"{name} is missing")
        return self.children[index]


def encode(node: Node) -> bytes:
    """The value in DER, whatever it came in: definite lengths, strings in one piece. (Sets keep their order.)"""
    if not node.constructed:
        contents, tag = node.octets(), node.tag
    elif node.tag & ~CONSTRUCTED in _STRINGS:
        contents, tag = node.octets(), node.tag & ~CONSTRUCTED
    else:
        contents, tag = b"".join(encode(child) for child in node.children), node.tag
    return bytes([tag]) + node.number + _sized(contents)


def value(tag: int, *parts: bytes) -> bytes:
    """A value in DER: its identifier octet, its length, and the parts of its contents, which are in DER themselves."""
    return bytes([tag]) + _sized(b"".join(parts))


def _sized(contents: bytes) -> bytes:
    size = len(contents)
    if size < 0x80:
        return bytes([size]) + contents
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets + contents


def parse(source: bytes, budget: Budget, *, depth: int = 0, outermost: bool = False) -> Node:
    """The tree of the first value in `source`. Bytes after it are left alone, as readers of PKCS #12 do.

    `depth` is that of the value which holds `source`. Raises Refusal: `truncated` where the outermost value announces
    more than the file has, `limit_exceeded` over the depth or the budget, `damaged` for anything that is not BER.
    """
    root, contents_end = _header(source, 0, len(source), depth + 1, outermost=outermost)
    budget.spend()
    if not root.constructed:
        return root
    # Open values, outermost first, with where each ends; None while an indefinite length has not met its end.
    open_values: list[tuple[Node, int | None]] = [(root, contents_end)]
    position = root.start
    while open_values:
        parent, end = open_values[-1]
        if position == end:
            open_values.pop()
            continue
        bound = _bound(open_values, len(source))
        if end is None and source[position : position + 2] == b"\0\0" and position + 2 <= bound:
            parent.end = position
            position += 2
            open_values.pop()
            continue
        if end is None and position >= bound and outermost and bound == len(source):
            raise Refusal("truncated", announced=len(source) + 2, size=len(source))
        budget.spend()
        node, node_end = _header(source, position, bound, parent.depth + 1)
        parent.children.append(node)
        position = node.start
        if node.constructed:
            open_values.append((node, node_end))
        else:
            position = node.end
    return root


def _bound(open_values: list[tuple[Node, int | None]], size: int) -> int:
    """Where the innermost value of known length ends; nothing inside may reach beyond."""
    for _, end in reversed(open_values):
        if end is not None:
            return end
    return size


def _header(source: bytes, at: int, bound: int, depth: int, *, outermost: bool = False) -> tuple[Node, int | None]:
    """The value at `at`, without children, and where its contents end (None for an indefinite length)."""
    if depth > MAX_DEPTH:
        raise Refusal("limit_exceeded", what="the depth of its nesting", figure=depth, limit=MAX_DEPTH)
    position = at
    if position + 2 > bound:
        raise _overrun(bound + 1, bound, outermost)
    tag = source[position]
    position += 1
    if tag & 0x1F == 0x1F:  # A tag number above 30, which PKCS #12 never uses: step over at most four octets.
        for _ in range(4):
            if position >= bound:
                raise _overrun(bound + 1, bound, outermost)
            position += 1
            if not source[position - 1] & 0x80:
                break
        else:
            raise Refusal("damaged", place="a tag is too long")
    number = source[at + 1 : position]
    if position >= bound:
        raise _overrun(bound + 1, bound, outermost)
    length = source[position]
    position += 1
    if length == 0x80:
        if not tag & CONSTRUCTED:
            raise Refusal("damaged", place="a simple value has no length")
        return Node(tag, source, position, bound, depth, number), None
    if length > 0x80:
        octets = length & 0x7F
        if octets > 8:
            raise Refusal("damaged", place="a length is absurd")
        if position + octets > bound:
            raise _overrun(position + octets, bound, outermost)
        length = int.from_bytes(source[position : position + octets], "big")
        position += octets
    if position + length > bound:
        raise _overrun(position + length, bound, outermost)
    return Node(tag, source, position, position + length, depth, number), position + length


def _overrun(announced: int, size: int, outermost: bool) -> Refusal:
    if outermost:
        return Refusal("truncated", announced=announced, size=size)
    return Refusal("damaged", place="a part reaches beyond the part that holds it")
