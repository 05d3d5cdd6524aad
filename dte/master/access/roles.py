"""Sets of roles, for the table of routes (`dte.master.api.routes`)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dte.master.access.tokens import Role

Roles = frozenset[Role]
"""The roles that may make a request; none of them for one that needs no token."""
May = Mapping[str, Roles]
"""The roles for each method of a route, as ``{"get": READ}``."""
NO_METHODS: May = MappingProxyType({})

EVERYBODY: Roles = frozenset()
"""Everybody, without a token too."""
KNOWN: Roles = frozenset(Role)
"""Everybody with a token."""
READ: Roles = frozenset({Role.CLIENT, Role.READER, Role.ADMIN})
"""Those who see jobs: a client its own, the others all."""
SUBMIT: Roles = frozenset({Role.CLIENT, Role.ADMIN})
"""Those who submit jobs, and change those that they see."""
SEE: Roles = frozenset({Role.READER, Role.ADMIN})
"""Those who see workers, and counts of all jobs."""
WORK: Roles = frozenset({Role.WORKER, Role.ADMIN})
"""Those who do the work."""
LOOK: Roles = SEE | WORK
"""Those who see a worker, and the worker that looks there for its tasks."""
OPERATE: Roles = frozenset({Role.ADMIN})
"""Operators."""
