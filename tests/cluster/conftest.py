"""A cluster of two machines, as far as Ray can tell."""

import os
import secrets
from collections.abc import Iterator

import pytest

from cluster.connection import LOCAL_SETTINGS, RAY_SETTINGS, START_ATTEMPTS


@pytest.fixture
def two_nodes() -> Iterator:
    """A Ray cluster of two nodes with a core each, beside a head without any, and its address."""
    os.environ.update(RAY_SETTINGS | LOCAL_SETTINGS)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    from ray.cluster_utils import Cluster

    settings = {"object_store_memory": 2**27, "include_dashboard": False}
    for attempt in range(START_ATTEMPTS):
        nodes = Cluster()
        try:
            nodes.add_node(num_cpus=0, **settings)
            workers = [nodes.add_node(num_cpus=1, object_store_memory=2**27) for _ in range(2)]
            break
        except Exception:  # Ray raises a bare Exception if it was too slow to start
            nodes.shutdown()
            if attempt == START_ATTEMPTS - 1:
                raise
    yield nodes, workers
    nodes.shutdown()
