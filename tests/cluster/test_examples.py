"""The files for Slurm and Kubernetes, as far as one machine can try them."""

import contextlib
import os
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from app.config import TrainConfig
from tests.conftest import draw_photos, path_with
from training.folder import open_folder
from tuning.space import parse_search

REPOSITORY = Path(__file__).parents[2]
SRUN = """#!/bin/bash
while [[ "$1" != ray && "$1" != python ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
case "$*" in
"show hostnames node1") echo 127.0.0.1 ;;
"show hostnames node[1-3]") printf 'node1\\nnode2\\nnode3\\n' ;;
esac
"""
LOGS_ARGUMENTS = """#!/bin/bash
echo "$(basename "$0") $* cpus:${SRUN_CPUS_PER_TASK:-none} ${cluster:-}" >> "$LOG"
"""
SAVES_AT_TERM = """#!/bin/bash
[[ "$1" != tune.py ]] && exit
sleep 60 &
trap 'kill $!; sleep 1; touch "$LOG"; exit 7' TERM
echo ready
wait
"""
SLURM = {"SLURM_JOB_ID": "40123", "SLURM_JOB_NODELIST": "node[1-3]", "SLURM_CPUS_ON_NODE": "2"}
SCRIPTS = ["examples/slurm.sh", "examples/slurm_search.sh"]


def run_script(folder: Path, script: str, *arguments: str | Path, **slurm: str) -> list[str]:
    """Runs a script under a Slurm that starts nothing; returns what it would start."""
    ignores = "#!/bin/bash\n"
    srun = LOGS_ARGUMENTS if script == "examples/slurm.sh" else SRUN
    path = path_with(folder, srun=srun, scontrol=SCONTROL, python=LOGS_ARGUMENTS, ray=ignores)
    environment = os.environ | {"PATH": path, "LOG": str(folder / "log")} | SLURM | slurm
    subprocess.run(["bash", script, *map(str, arguments)], cwd=REPOSITORY, env=environment, check=True, timeout=60)
    return (folder / "log").read_text().splitlines()


def begin(run: Path) -> None:
    """Leaves a run that is killed before it has read any data."""
    config = TrainConfig.of(data="photos", output=run)
    with contextlib.suppress(KeyboardInterrupt), open_folder(config):
        raise KeyboardInterrupt


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_run_that_was_killed_early_is_resumed(tmp_path, script):
    begin(tmp_path / "run")
    resumed = run_script(tmp_path, script, tmp_path / "run", "--data", "photos")
    assert f"--resume {tmp_path / 'run'} cpus" in resumed[-1]
    begun = run_script(tmp_path, script, tmp_path / "new", "--data", "photos")
    assert f"--output {tmp_path / 'new'} --data photos cpus" in begun[-1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_steps_of_a_job_have_its_cores(tmp_path, script):
    assert "cpus:8" in run_script(tmp_path, script, "run", SLURM_CPUS_PER_TASK="8")[-1]
    assert "cpus:none" in run_script(tmp_path, script, "run")[-1]


def test_jobs_on_the_same_machines_have_ports_of_their_own(tmp_path):
    one = run_script(tmp_path, "examples/slurm.sh", "run")[-1]
    two = run_script(tmp_path, "examples/slurm.sh", "run", SLURM_JOB_ID="40124")[-1]
    assert one.endswith('{"worker": ["node1:22460","node2:22461","node3:22462"]}')
    assert two.endswith('{"worker": ["node1:22480","node2:22481","node3:22482"]}')


def test_a_search_starts_when_all_machines_have_joined(tmp_path):
    first, *others = run_script(tmp_path, "examples/slurm_search.sh", "search")
    assert first.startswith("python -c")  # the token
    assert [line.split()[1:5] for line in others] == [
        ["-m", "cluster.wait", "node1:20123", "1"],
        ["-m", "cluster.wait", "node1:20123", "3"],
        ["tune.py", "--cluster", "node1:20123", "--cache-dir"],
    ]


def test_a_search_that_is_terminated_may_save_and_tells_its_status(tmp_path):
    path = path_with(tmp_path, srun=SRUN, scontrol=SCONTROL, python=SAVES_AT_TERM, ray="#!/bin/bash\n")
    environment = os.environ | SLURM | {"PATH": path, "LOG": str(tmp_path / "saved")}
    command = ["bash", "examples/slurm_search.sh", "search"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(60) == 7
    assert (tmp_path / "saved").exists()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["tune.py", "train.py"])
def test_slurm_starts_a_ray_and_works_on_it(tmp_path, program):
    draw_photos(tmp_path / "photos", ("cat", "dog"), 12)
    path = path_with(tmp_path, srun=SRUN, scontrol=SCONTROL)
    slurm = {**SLURM, "SLURM_JOB_NODELIST": "node1", "HEADSTART_CACHE": str(tmp_path / "cache")}
    slurm |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # the head has the address 127.0.0.1
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
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert not [each for each in container["env"] if "AUTH" in each["name"]]  # would replace KubeRay's token
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/shared"}
