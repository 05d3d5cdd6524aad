"""Plans of many nodes, or with many edges: read and written in slices."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import msgspec

from dte.core.errors import TooLarge
from dte.master.plans import Node, Plan, plan_text, read_plan
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.faults import plain
from dte.wire.misfits import explained
from dte.wire.pieces import PIECE_BYTES, Values, in_pieces

NODES_AT_ONCE = 200
AFTER_NAMES_MAX = 100_000
"""Names in the `after` of a node; of more, none is read."""


class _Sketch(Plan, omit_defaults=True, forbid_unknown_fields=True):
    """A plan whose nodes are undecoded."""

    graph: msgspec.Raw = msgspec.Raw(b"{}")  # type: ignore[assignment]


class _After(msgspec.Struct):
    """The names of the nodes that must end before a node, undecoded."""

    after: msgspec.Raw = msgspec.Raw(b"[]")


_sketch: Decoder[_Sketch] = Decoder(_Sketch)
_node: Decoder[Node] = Decoder(Node, lenient=False)
_after: Decoder[_After] = Decoder(_After, lenient=False)


def reading_plan(text: str) -> Generator[None, None, Plan]:
    """Read the plan that `plan_text` wrote, a long one in slices."""
    if len(text) <= PIECE_BYTES:
        return read_plan(text)
    raw = text.encode()
    yield
    sketch = _sketch.decode(raw)
    yield
    fields = {name: getattr(sketch, name) for name in sketch.__struct_fields__}
    fields["graph"] = yield from decoding_nodes(bytes(sketch.graph))
    return Plan(**fields)


def decoding_nodes(raw: bytes) -> Generator[None, None, dict[str, Node]]:
    """Decode the nodes of a graph in slices.

    Raises:
        Malformed: one of them is not JSON or not a node; the text names it.
    """
    if raw[:1] != b"{":
        raise Malformed("graph must be an object")
    pieces: list[Values] = []
    yield from in_pieces(raw, pieces.append)
    yield
    nodes: dict[str, Node] = {}
    texts: dict[str, str] = {}  # Millions of names may be those of few nodes.
    size = 0
    for piece in pieces:
        assert isinstance(piece, Mapping)
        for name, value in piece.items():
            node = bytes(value)
            try:
                if len(node) > PIECE_BYTES:  # Each look at a node of megabytes takes long.
                    yield
                    _check_after(name, node)
                    yield
                nodes[name] = decoded = _node.decode(node)
                decoded.after = [texts.setdefault(each, each) for each in decoded.after]
            except Malformed as error:
                text = explained(node, Node) or plain(error)
                raise Malformed(f"node {name[:50]!r}: {text}") from None
            size += len(node)
            if size > PIECE_BYTES:
                size = 0
                yield
    return nodes


def _check_after(name: str, node: bytes) -> None:
    """Check that a long node does not name more nodes in `after` than there may be."""
    names = bytes(_after.decode(node).after)
    if names.count(b'"') > 2 * AFTER_NAMES_MAX:
        raise TooLarge(f"node {name[:50]!r}: after has more than {AFTER_NAMES_MAX} names")


def writing_plan(plan: Plan) -> Generator[None, None, str]:
    """Write the text of a plan for the journal, a long one in slices."""
    if len(plan.graph) <= NODES_AT_ONCE and sum(map(_size, plan.graph.values())) <= PIECE_BYTES:
        return plan_text(plan)
    nodes: list[bytes] = []
    size = 0
    for name, node in plan.graph.items():
        nodes.append(encode(name) + b":" + encode(node))
        size += len(nodes[-1])
        if size > PIECE_BYTES:
            size = 0
            yield
    head = encode(msgspec.structs.replace(plan, graph={}))
    graph = b'{"graph":{' + b",".join(nodes) + b"}"
    yield
    return (graph + (b"}" if head == b"{}" else b"," + head[1:])).decode()


def _size(node: Node) -> int:
    return len(bytes(node.args)) + 4 * len(node.after)
