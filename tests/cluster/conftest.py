"""A cluster of two machines, as far as Ray can tell."""

import os
import secrets
from collections.abc import Iterator

import pytest

from cluster.connection import LOCAL_SETTINGS, RAY_SETTINGS


@pytest.fixture
def two_nodes() -> Iterator:
    """A Ray cluster of two nodes with a core each, beside a head without any, and its address."""
    os.environ.update(RAY_SETTINGS | LOCAL_SETTINGS)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    from ray.cluster_utils import Cluster

    settings = {"object_store_memory": 2**27, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **settings})
    try:
        yield nodes, [nodes.add_node(num_cpus=1, object_store_memory=2**27) for _ in range(2)]
    finally:
        nodes.shutdown()
