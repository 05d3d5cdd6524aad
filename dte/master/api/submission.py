"""The body of ``POST /jobs``: one job, or many, as plans."""

from __future__ import annotations

import sys
from collections.abc import Generator
from copy import copy
from datetime import datetime
from typing import Any

import msgspec

from dte.core.errors import InvalidRequest, TooLarge
from dte.master.long_plans import decoding_nodes
from dte.master.plans import NO_ARGS, Node, Plan, When
from dte.wire.codec import Decoder, Malformed
from dte.wire.faults import plain
from dte.wire.items import search_more
from dte.wire.misfits import explained
from dte.wire.pieces import PIECE_BYTES, Values, in_pieces

CALL = "call"
"""The name of the only node of a job that is one call."""
NODE_CHARS_SHOWN = 50
AFTER_NAMES_MAX = 100_000
"""Jobs in the `after` of a job in a long request; of more, not even the numbers are read."""
ONE_KIND = (
    'give exactly one of graph, formula or handler, for example {"handler": "echo", "args": ["hi"]}'
)
JOBS_ALONE = '"jobs" cannot be combined with other fields; set them on each job'
CALL_FIELDS = ("args", "kwargs", "timeout", "retries", "delay", "not_before")
CALL_ALONE = (
    "args, kwargs, timeout, retries, delay and not_before apply to a single call; in a graph, set "
    "them on its nodes"
)


class OneSubmission(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One job: a graph of calls, a single call, or a formula."""

    graph: dict[str, Node] | msgspec.UnsetType = msgspec.UNSET
    formula: str | msgspec.UnsetType = msgspec.UNSET
    handler: str | msgspec.UnsetType = msgspec.UNSET
    args: msgspec.Raw = msgspec.field(default_factory=lambda: NO_ARGS)
    timeout: float | None = None
    retries: int | None = None
    delay: float = 0.0
    not_before: datetime | None = None
    answer: str | None = None
    after: list[int] = []
    when: When = "success"
    priority: int = 0
    notify: str = ""
    kwargs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def plan(self) -> Plan:
        """The job's plan.

        Raises:
            InvalidRequest: it is not of exactly one kind, or a field does not apply to its kind.
        """
        kinds = [name for name in ("graph", "formula", "handler") if self._sets(name)]
        if len(kinds) != 1:
            raise InvalidRequest(ONE_KIND)
        if kinds != ["handler"] and any(map(self._sets, CALL_FIELDS)):
            raise InvalidRequest(CALL_ALONE)
        if kinds != ["graph"] and self.answer is not None:
            raise InvalidRequest("answer applies to a graph")
        plan = Plan(
            answer=self.answer,
            after=self.after,
            when=self.when,
            priority=self.priority,
            notify=self.notify,
        )
        if isinstance(self.formula, str):
            plan.formula = self.formula
        else:
            plan.graph = self._graph()
        return plan

    def _sets(self, field: str) -> bool:
        """True if a field differs from its default."""
        return bool(getattr(self, field) != getattr(DEFAULTS, field))

    def _graph(self) -> dict[str, Node]:
        if isinstance(self.graph, dict):
            if not self.graph:
                raise InvalidRequest("the graph has no nodes")
            return self.graph
        assert isinstance(self.handler, str)
        call = Node(
            self.handler,
            self.args,
            timeout=self.timeout,
            retries=self.retries,
            delay=self.delay,
            not_before=self.not_before,
            kwargs=self.kwargs,
        )
        return {CALL: call}


DEFAULTS = OneSubmission()


class JobSubmission(OneSubmission, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `POST /jobs`: one job, or many in `jobs`, which are accepted all or none."""

    jobs: list[OneSubmission] | msgspec.UnsetType = msgspec.UNSET

    def plans(self) -> list[Plan]:
        """The plans of many jobs.

        Raises:
            InvalidRequest: one of the jobs has no plan; the error names its index.
        """
        assert isinstance(self.jobs, list)
        if self != JobSubmission(jobs=self.jobs):
            raise InvalidRequest(JOBS_ALONE)
        plans = []
        for index, job in enumerate(self.jobs):
            try:
                plans.append(job.plan())
            except InvalidRequest as error:
                raise InvalidRequest(f"job {index} of the request: {error}") from None
        return plans


class _OneSketch(OneSubmission, forbid_unknown_fields=True):
    """A job whose long parts are undecoded."""

    graph: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]
    after: msgspec.Raw = NO_ARGS  # type: ignore[assignment]


class _Sketch(JobSubmission, forbid_unknown_fields=True):
    """A submission whose long parts are undecoded."""

    graph: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]
    after: msgspec.Raw = NO_ARGS  # type: ignore[assignment]
    jobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]


class _Nodes(msgspec.Struct):
    """A job with its nodes undecoded."""

    graph: dict[str, msgspec.Raw] = {}


class _JobsOfNodes(_Nodes):
    """A `JobSubmission` with the nodes of all its jobs undecoded."""

    jobs: list[_Nodes] = []


class SubmissionDecoder(Decoder[JobSubmission]):
    """Decodes submissions, long ones in slices; an error in a node of a graph names the node."""

    def __init__(self) -> None:
        # Not lenient: what clients send may be large, and the slow reader takes seconds for it.
        super().__init__(JobSubmission, lenient=False)
        self._whole: Decoder[_JobsOfNodes] = Decoder(_JobsOfNodes, lenient=False)
        self._node: Decoder[Node] = Decoder(Node, lenient=False)
        self._sketch: Decoder[_Sketch] = Decoder(_Sketch, lenient=False)
        self._one: Decoder[OneSubmission] = Decoder(OneSubmission, lenient=False)
        self._one_sketch: Decoder[_OneSketch] = Decoder(_OneSketch, lenient=False)
        self._after: Decoder[list[int]] = Decoder(list[int], lenient=False)
        self._jobs_max = self._calls_max = sys.maxsize

    def bounded(self, jobs_max: int, calls_max: int) -> SubmissionDecoder:
        """A decoder that refuses a long submission of more jobs, or with more nodes in a graph.

        To decode millions of them, only to refuse them, takes seconds and gigabytes.
        """
        decoder = copy(self)
        decoder._jobs_max, decoder._calls_max = jobs_max, calls_max
        return decoder

    def decode(self, raw: bytes) -> JobSubmission:
        try:
            return super().decode(raw)
        except Malformed as error:
            if ".graph[...]" in str(error):
                self._raise_for_node(raw)
            raise

    def decoding(self, raw: bytes) -> Generator[None, None, JobSubmission]:
        if len(raw) <= PIECE_BYTES:
            return self.decode(raw)
        sketch = self._sketch.decode(raw)
        yield
        fields = yield from self._fields(sketch)
        if isinstance(sketch.jobs, msgspec.Raw):
            fields["jobs"] = yield from self._jobs(bytes(sketch.jobs))
        return JobSubmission(**fields)

    def _fields(self, sketch: _Sketch | _OneSketch) -> Generator[None, None, dict[str, Any]]:
        """The fields of a job, with those decoded that may be long."""
        names = sketch.__struct_fields__
        fields = {name: getattr(sketch, name) for name in names}
        after = bytes(sketch.after)
        if after.count(b",") > AFTER_NAMES_MAX:
            raise TooLarge(f"after has more than {AFTER_NAMES_MAX} jobs")
        fields["after"] = self._after.decode(after)
        if isinstance(sketch.graph, msgspec.Raw):
            graph = bytes(sketch.graph)
            if (yield from search_more(graph, self._calls_max)):
                most = f"more than {self._calls_max} nodes (calls_max)"
                raise TooLarge(f"graph too large: {most}")
            yield
            fields["graph"] = yield from decoding_nodes(graph)
        return fields

    def _jobs(self, raw: bytes) -> Generator[None, None, list[OneSubmission]]:
        if raw[:1] != b"[":
            raise Malformed("jobs must be a list")
        if (yield from search_more(raw, self._jobs_max)):
            raise TooLarge(f"too many jobs in a request: more than {self._jobs_max} (formulas_max)")
        pieces: list[Values] = []
        yield
        yield from in_pieces(raw, pieces.append)
        yield
        jobs: list[OneSubmission] = []
        size = 0
        for piece in pieces:
            assert isinstance(piece, list)
            for value in piece:
                job = bytes(value)
                try:
                    if len(job) <= PIECE_BYTES:
                        jobs.append(self._one.decode(job))
                    else:
                        yield
                        fields = yield from self._fields(self._one_sketch.decode(job))
                        jobs.append(OneSubmission(**fields))
                except Malformed as error:
                    text = f"job {len(jobs)} of the request: {plain(error)}"
                    raise Malformed(text) from None
                except TooLarge as error:
                    raise TooLarge(f"job {len(jobs)} of the request: {error}") from None
                size += len(job)
                if size > PIECE_BYTES:
                    size = 0
                    yield
        return jobs

    def _raise_for_node(self, raw: bytes) -> None:
        """Raise the error of the first malformed node, with its name."""
        try:
            whole = self._whole.decode(raw)
        except Malformed:
            return  # Something outside the nodes is wrong, too.
        self._check_nodes(whole.graph, "")
        for index, job in enumerate(whole.jobs):
            self._check_nodes(job.graph, f"job {index} of the request: ")

    def _check_nodes(self, graph: dict[str, msgspec.Raw], prefix: str) -> None:
        for name, node in graph.items():
            try:
                self._node.decode(bytes(node))
            except Malformed as error:
                shown = name[:NODE_CHARS_SHOWN]
                text = explained(bytes(node), Node) or plain(error)
                raise Malformed(f"{prefix}node {shown!r}: {text}") from None
