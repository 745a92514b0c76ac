"""What was trained with --outside finds its own pictures again, and only then are links out of the folder followed."""

import pytest

from app.errors import UsageError
from inference.load import read_run
from inference.run_record import read_sample
from reports.evaluation_inputs import load_evaluation


@pytest.fixture
def linked_run(binary_run, tmp_path):
    """A run whose classes are links to folders elsewhere; a function of its setting."""
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "linked" / name).symlink_to(binary_run.parent / "photos" / name)
    run = read_run(binary_run)

    def with_setting(outside: bool):
        return run._replace(config=run.config.replace(data=str(tmp_path / "linked"), outside=outside))

    return with_setting


def test_evaluate_reads_the_pictures_of_a_run_by_its_own_setting(linked_run, tmp_path):
    assert len(load_evaluation(linked_run(True), None, (), tmp_path).data.examples) == 24
    with pytest.raises(UsageError, match="which --outside would follow"):
        load_evaluation(linked_run(False), None, (), tmp_path, outside=True)


def test_export_reads_the_pictures_of_a_run_by_its_own_setting(linked_run, tmp_path):
    assert len(read_sample(linked_run(True), [], 4, tmp_path).paths) == 4
    with pytest.raises(UsageError, match="are not there"):
        read_sample(linked_run(False), [], 4, tmp_path)
