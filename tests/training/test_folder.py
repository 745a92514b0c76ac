"""One process is at work on a run folder, and a run goes on under the settings that it was begun with."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import TrainConfig
from app.errors import RunError, UsageError
from app.run_folder import resume_command
from inference.load import read_run
from training.begun import begin, read_begun, read_begun_with
from training.folder import check_output, data_name, open_folder

REPOSITORY = Path(__file__).parents[2]


def begun(folder: Path, **settings) -> TrainConfig:
    """Leaves an unfinished run, as a process does that is stopped."""
    config = TrainConfig.of(output=folder, cache_dir=folder.parent / "cache", **settings)
    with pytest.raises(KeyboardInterrupt), open_folder(config):
        raise KeyboardInterrupt
    return config


def test_an_open_folder_holds_the_settings(tmp_path):
    with open_folder(TrainConfig.of(output=tmp_path / "run", seed=7)) as config:
        assert config.run.output == tmp_path / "run"
        assert TrainConfig.from_file(tmp_path / "run" / "config.json").training.seed == 7


def test_a_folder_of_its_own_is_named_by_backbone_and_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_folder(TrainConfig.of(data="my photos", backbone="vgg16")) as first:
        assert first.run.output.parent == Path("runs")
        assert first.run.output.name.endswith("-vgg16-my-photos")
    with open_folder(TrainConfig.of(data="my photos", backbone="vgg16")) as second:
        assert second.run.output != first.run.output


def test_an_unfinished_run_says_how_it_is_resumed_and_is_found_by_resume(tmp_path):
    begun(tmp_path / "unfinished")
    (tmp_path / "newer").mkdir()
    command = f"python train.py --resume {tmp_path / 'unfinished'}"
    with pytest.raises(UsageError, match=f"is a run that is not finished. Continue with: {command}$"):
        read_run(tmp_path / "unfinished")
    with pytest.raises(UsageError, match=f"The newest there is '{tmp_path / 'unfinished'}'.$"):
        read_begun(tmp_path / "nope")


@pytest.mark.parametrize("error", [UsageError("No such pictures."), RunError("Too little memory."), MemoryError()])
@pytest.mark.parametrize("existed", [True, False])
def test_what_goes_wrong_before_the_run_has_begun_leaves_no_folder(tmp_path, existed, error):
    folder = tmp_path / "run"
    if existed:
        folder.mkdir()
    with pytest.raises(type(error)), open_folder(TrainConfig.of(output=folder)):
        raise error
    assert folder.exists() == existed
    assert not existed or list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [UsageError("Others."), RunError("A worker is gone.")])
def test_what_goes_wrong_after_a_run_has_begun_loses_nothing(tmp_path, capsys, error):
    folder = tmp_path / "run"

    def train():
        with open_folder(TrainConfig.of(output=folder)) as config:
            begin(config, "digest", {}, {})
            raise error

    with pytest.raises(type(error)):
        train()
    assert f"continue with: {resume_command(folder)}; to start over, delete '{folder}'" in capsys.readouterr().out
    assert read_begun(folder).run.output == folder


def test_an_interrupted_run_says_how_it_goes_on(tmp_path, capsys):
    begun(tmp_path / "my run")
    assert f"python train.py --resume '{tmp_path}/my run'" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"holds an unfinished run\. Continue with: python .*; to start over, delete"):
        check_output(tmp_path / "my run")


def test_a_run_goes_on_in_the_places_it_began_in(tmp_path):
    begun(tmp_path / "run", cache_gb=3.0, head_units=(8, 4), tensorboard=True)
    config = read_begun(tmp_path / "run")
    assert config.run.output == config.run.resume == tmp_path / "run"
    assert config.run.cache_dir == tmp_path / "cache"
    assert (config.run.cache_gb, config.model.head_units, config.run.tensorboard) == (3.0, (8, 4), True)
    with open_folder(config) as again:
        assert again.run.output == tmp_path / "run"


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(UsageError, match=r"--resume must be the folder of an unfinished run; '.*' holds none"):
        read_begun(tmp_path)


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from app.config import TrainConfig; "
        "from training.folder import open_folder\n"
        "with open_folder(TrainConfig.of(output=Path(sys.argv[1]))): print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    first = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "open\n"
    with pytest.raises(UsageError, match="Another process is at work"):
        check_output(tmp_path / "run")
    with pytest.raises(UsageError, match="Another process is at work"), open_folder(read_begun(tmp_path / "run")):
        pass
    first.send_signal(signal.SIGKILL)
    first.wait()
    with open_folder(read_begun(tmp_path / "run")) as config:
        assert config.run.output == tmp_path / "run"


def test_what_a_run_was_begun_with_is_kept(tmp_path):
    config = begun(tmp_path / "run", batch_size=4)
    assert read_begun_with(config, "digest", {"keras": "3"}) is None
    begin(config, "digest", {"keras": "3"}, {"head": 12})
    chosen = config.replace(learning_rate=1e-3)  # which was open
    assert read_begun_with(chosen, "digest", {"keras": "3"}) == {"head": 12}


def test_another_setting_is_refused_by_name(tmp_path):
    config = begun(tmp_path / "run", batch_size=4, head_units=(8,))
    begin(config, "digest", {}, {})
    for changed, message in (
        ({"batch_size": 8}, "begun with --batch-size 4; received 8"),
        ({"head_units": (8, 4)}, "begun with --head-units 8; received 8 4"),
        ({"backbone": "vgg16"}, "begun with --backbone efficientnet_lite0; received vgg16"),
    ):
        with pytest.raises(UsageError, match=message):
            read_begun_with(config.replace(**changed), "digest", {})


def test_other_pictures_are_refused(tmp_path):
    config = begun(tmp_path / "run")
    begin(config, "digest", {}, {})
    with pytest.raises(UsageError, match="begun with other examples, labels or weights"):
        read_begun_with(config, "another digest", {})


def test_another_version_is_a_warning(tmp_path, capsys):
    config = begun(tmp_path / "run")
    begin(config, "digest", {"keras": "3.15.1", "pillow": "12"}, {})
    read_begun_with(config, "digest", {"keras": "3.16.0", "pillow": "12"})
    assert "begun with keras 3.15.1, now 3.16.0: the last digits may differ" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ['{"config"', "[]", "{}", '{"config": [], "inputs": "", "cuts": {}, "versions": {}}']
)
def test_a_damaged_record_is_a_sentence(tmp_path, content):
    config = begun(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "begun.json").write_text(content)
    with pytest.raises(UsageError, match=r"begun.json' is damaged"):
        read_begun_with(config, "digest", {})


@pytest.mark.parametrize("change", [{"cache_dir": 5}, {"cache_gb": "x"}, {"cache_gb": True}, {"strict": None}])
def test_damaged_places_are_a_sentence(tmp_path, change):
    begun(tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "places.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UsageError, match=r"places.json' is damaged"):
        read_begun(tmp_path / "run")


def test_places_name_no_other_setting(tmp_path):
    begun(tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "places.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data": "elsewhere", "output": "elsewhere"}))
    assert read_begun(tmp_path / "run").data.data == "animals"
    assert read_begun(tmp_path / "run").run.output == tmp_path / "run"


def test_a_folder_of_someone_else_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="must be a new or empty folder"):
        check_output(tmp_path)
    with pytest.raises(UsageError, match="--resume must be the folder of an unfinished run"):
        read_begun(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_what_a_kill_left_before_the_settings_is_an_empty_folder(tmp_path):
    begun(tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    with open_folder(TrainConfig.of(output=tmp_path / "run", seed=3)):
        assert TrainConfig.from_file(tmp_path / "run" / "config.json").training.seed == 3


def test_two_runs_of_one_second_have_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_folder(TrainConfig()) as first, open_folder(TrainConfig()) as second:
        assert first.run.output != second.run.output


def test_a_full_disk_is_a_sentence(tmp_path):
    with (
        pytest.raises(RunError, match=r"is full\. What was complete is kept"),
        open_folder(TrainConfig.of(output=tmp_path / "run")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == "animals"


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), open_folder(TrainConfig.of(output=tmp_path / "run")):
        raise PermissionError(errno.EACCES, "Permission denied", "photos")


def test_names_of_data():
    assert data_name("animals") == "animals"
    assert data_name("a/my photos.csv") == "my-photos"
    assert data_name("a/photos.v2/") == "photos.v2"
    assert data_name("tfds:cifar10/small:1.0.0") == "cifar10-small-1-0-0"
    assert data_name(".") == Path.cwd().name


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u3042"])
def test_a_long_name_of_data_is_cut(tmp_path, monkeypatch, letter):
    monkeypatch.chdir(tmp_path)
    long = letter * (250 // len(letter.encode()))
    Path(long).mkdir()
    with open_folder(TrainConfig.of(data=long, backbone="inceptionresnetv2")) as config:
        assert config.run.output.is_dir()
        assert config.run.output.name.endswith(f"-inceptionresnetv2-{letter * (100 // len(letter.encode()))}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "photos/run1"}, "--output must be outside the folder of --data, .*; 'photos/run1' is inside"),
        ({"output": "photos/cat/deep/run1"}, "--output must be outside"),
        ({"output": "link/run1"}, "--output must be outside"),
        ({"output": "photos"}, "--output must be outside"),
        ({"data": "."}, r"--output must be outside .*; 'runs' is inside '\.'\. Name another --output\."),
        ({"output": "run1", "cache_dir": "photos/cache"}, "--cache-dir must be outside .* Name another --cache-dir"),
    ],
)
def test_what_would_be_written_into_the_data_is_refused(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    Path("photos/cat").mkdir(parents=True)
    Path("link").symlink_to("photos")
    places = {name: Path(value) for name, value in settings.items() if name != "data"}
    config = TrainConfig.of(data=settings.get("data", "photos"), **{"cache_dir": tmp_path.parent / "cache", **places})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message), open_folder(config):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_is_quoted():
    assert resume_command(Path("runs/a b")) == "python train.py --resume 'runs/a b'"
