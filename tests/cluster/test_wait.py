"""A script waits for the machines of a Ray, and says how many are there if they are too few."""

import socket
import subprocess
import sys

import pytest

from app.errors import RunError
from cluster import wait
from cluster.wait import wait_for_nodes


def test_it_looks_again_until_all_machines_are_there(monkeypatch):
    counts = iter([1, 2, 4, 5])
    monkeypatch.setattr(wait, "_count_nodes", lambda address: next(counts))
    monkeypatch.setattr(wait, "POLL", 0.0)
    wait_for_nodes("head:1", 4)
    assert next(counts) == 5


def test_when_the_time_is_up_it_says_how_many_are_there(monkeypatch):
    monkeypatch.setattr(wait, "_count_nodes", lambda address: 2)
    with pytest.raises(RunError, match=r"^2 of 4 machines have joined the Ray at head:1 in 0 s\.$"):
        wait_for_nodes("head:1", 4, seconds=0)


def test_a_ray_that_is_not_up_is_waited_for(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(RunError, match=r"^0 of 1 machines have joined .* does not answer: Connection refused\.$"):
        wait_for_nodes(address, 1, seconds=0)


def test_the_command_needs_an_address_and_a_number():
    told = subprocess.run([sys.executable, "-m", "cluster.wait"], capture_output=True, text=True)
    assert told.returncode == 2
    assert "the following arguments are required: address, machines" in told.stderr


def test_machines_that_have_joined_are_counted(two_nodes):
    nodes, _ = two_nodes
    program = "import sys; from cluster.wait import _count_nodes; print(_count_nodes(sys.argv[1]))"
    counted = subprocess.run([sys.executable, "-c", program, nodes.address], capture_output=True, text=True)
    assert counted.stdout == "3\n", counted.stderr
