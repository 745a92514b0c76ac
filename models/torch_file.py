"""Reads PyTorch's files of weights without PyTorch, and without running code that is in them.

Such a file is a pickle plus raw arrays. Only the types that a dictionary of arrays needs are unpickled.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

from app.wheels import RestrictedUnpickler

DTYPES = {"FloatStorage": np.dtype("<f4"), "HalfStorage": np.dtype("<f2"), "LongStorage": np.dtype("<i8")}


def read_state_dict(content: bytes) -> dict[str, np.ndarray]:
    """Reads a checkpoint: a zip archive, or the format before PyTorch 1.6, several pickles and then raw arrays.

    Returns:
        Arrays by parameter name; int64 for counters.

    Raises:
        pickle.UnpicklingError: the file holds anything else.
    """
    return _read_zip(content) if content[:2] == b"PK" else _read_old(io.BytesIO(content))


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
        for member in members.values():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content):
                raise pickle.UnpicklingError(f"'{member.filename}' is compressed, which PyTorch does not do")

        def persistent_load(reference: Any) -> np.ndarray:
            _, dtype, key, *_ = reference
            return np.frombuffer(archive.read(members[f"data/{key}"]), dtype)

        pickled = io.BytesIO(archive.read(members["data.pkl"]))
        return dict(RestrictedUnpickler(pickled, _ALLOWED, persistent_load).load())


def _read_old(stream: io.BytesIO) -> dict[str, np.ndarray]:
    storages: dict[str, np.ndarray] = {}

    def persistent_load(reference: Any) -> np.ndarray:
        _, dtype, key, _, size, _ = reference
        return storages.setdefault(key, np.zeros(size, dtype))

    for _header in ("magic number", "protocol version", "system"):
        RestrictedUnpickler(stream, {}).load()
    state = RestrictedUnpickler(stream, _ALLOWED, persistent_load).load()
    for key in RestrictedUnpickler(stream, {}).load():
        size = int(np.frombuffer(stream.read(8), "<i8")[0])
        if size != storages[key].size:
            raise pickle.UnpicklingError(f"storage '{key}' holds {size} values, expected {storages[key].size}")
        storages[key][:] = np.frombuffer(stream.read(storages[key].nbytes), storages[key].dtype)
    return dict(state)


def _rebuild_tensor(storage: np.ndarray, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if offset < 0 or min(stride, default=0) < 0 or (min(size, default=1) > 0 and last >= storage.size):
        raise pickle.UnpicklingError("an array reaches beyond its storage")
    byte_strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, byte_strides, writeable=False)


_ALLOWED = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
}
