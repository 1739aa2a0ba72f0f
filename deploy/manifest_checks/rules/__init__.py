"""The rules, one module per family. Importing this package registers them all."""

from ..registry import registered
from . import (  # noqa: F401
    schema,
    container_security,
    containers,
    probes,
    releases,
    rollout,
    scaling,
    storage,
    access,
    configuration,
    secrets,
    routing,
    network_policies,
    settings,
)

RULES = tuple(registered)
