"""Files of installed wheels are checked before they are read, and their pickles may hold little."""

import collections
import io
import pickle
from importlib import metadata

import pytest

from app.errors import UsageError
from app.wheels import ANIMALS_LABELS, RestrictedUnpickler, installed_versions, read_wheel_file


def test_a_file_of_another_digest_is_refused():
    with pytest.raises(UsageError, match="SHA-256 differs"):
        read_wheel_file(ANIMALS_LABELS._replace(sha256="0" * 64))


def test_the_version_of_a_package_is_found_under_another_name_of_its_distribution():
    """As that of tensorflow, where tensorflow-tpu is installed."""
    assert installed_versions("keras", "PIL") == {"keras": metadata.version("keras"), "PIL": metadata.version("pillow")}


def test_a_missing_package_is_named():
    with pytest.raises(UsageError, match="'no_such_wheel' is not installed"):
        read_wheel_file(ANIMALS_LABELS._replace(distribution="no_such_wheel"))


def test_a_name_outside_the_allow_list_is_refused():
    content = io.BytesIO(pickle.dumps(collections.Counter()))
    with pytest.raises(pickle.UnpicklingError, match=r"'collections\.Counter' is not allowed"):
        RestrictedUnpickler(content, {"collections.OrderedDict": collections.OrderedDict}).load()
