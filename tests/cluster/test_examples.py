"""The files for Slurm and Kubernetes, as far as one machine can try them."""

import os
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.conftest import draw_photos, path_with
from tuning.space import parse_search

REPOSITORY = Path(__file__).parents[2]
SRUN = """#!/bin/bash
while [[ "$1" != ray && "$1" != python ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
[[ "$*" == "show hostnames node1" ]] && printf '127.0.0.1\\n'
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", ["tune.py", "train.py"])
def test_slurm_starts_a_ray_and_works_on_it(tmp_path, program):
    draw_photos(tmp_path / "photos", ("cat", "dog"), 12)
    path = path_with(tmp_path, srun=SRUN, scontrol=SCONTROL)
    slurm = {"SLURM_JOB_NODELIST": "node1", "SLURM_CPUS_ON_NODE": "2", "HEADSTART_CACHE": str(tmp_path / "cache")}
    command = ["bash", "examples/slurm_search.sh", str(tmp_path / "search"), "--data", str(tmp_path / "photos")]
    command += ["--image-size", "32", "--head-epochs", "2", "--trainable-layers", "0"]
    command += ["--max-trials", "3"] if program == "tune.py" else []
    slurm["HEADSTART_PROGRAM"] = program
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"PATH": path} | slurm,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        status = process.wait(300)
    finally:
        os.killpg(process.pid, 9)
    assert status == 0, process.stdout.read()
    if program == "train.py":
        assert (tmp_path / "search" / "metrics.json").exists()
    else:
        assert list(pd.read_csv(tmp_path / "search" / "trials.csv")["status"]) == ["done"] * 3


def test_the_job_for_kubernetes_gives_flags_that_tune_knows_and_a_token_to_every_machine(tmp_path):
    job = yaml.safe_load((REPOSITORY / "examples" / "kuberay_search.yaml").read_text())
    program, *flags = shlex.split(job["spec"]["entrypoint"])[1:]
    assert (REPOSITORY / program).is_file()
    assert parse_search(flags).fixed.run.cluster == "auto"
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/shared"}
