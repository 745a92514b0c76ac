"""The script for Slurm, with a Slurm that starts its tasks on this machine."""

import os
import subprocess
from pathlib import Path

import pandas as pd

from tests.conftest import draw_photos, path_with

REPOSITORY = Path(__file__).parents[2]
SRUN = """#!/bin/bash
for task in 0 1; do SLURM_PROCID=$task "$@" & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task" || exit $?; done
"""
SCONTROL = """#!/bin/bash
[[ "$*" == "show hostnames node[1-2]" ]] && printf 'localhost\\nlocalhost\\n'
"""


def test_two_tasks_share_a_run(tmp_path):
    draw_photos(tmp_path / "photos", ("cat", "dog"), 12)
    path = path_with(tmp_path, srun=SRUN, scontrol=SCONTROL)
    slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[1-2]"}
    environment = os.environ | {"PATH": path, "HEADSTART_CACHE": str(tmp_path / "c")} | slurm
    command = ["bash", "examples/slurm.sh", str(tmp_path / "run"), "--data", str(tmp_path / "photos")]
    command += ["--image-size", "32", "--head-epochs", "2"]
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "2 workers, 2 CPUs in all" in ended.stdout
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 2
