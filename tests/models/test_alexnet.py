"""AlexNet computes what torchvision's does, with the weights of its file."""

import io
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from app.cli import USAGE_STATUS, run_command
from models.alexnet import CONVOLUTIONS, IN_TORCH, convert, main
from models.backbones import find
from models.torch_file import read_state_dict
from models.weights import build_backbone, check_available

SIZE = 95


def torch_file(arrays: dict[str, np.ndarray], storage: np.ndarray | None = None) -> bytes:
    """Writes what `torch.save` does: a pickle that names the arrays beside it, or another array in their place."""
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R"
    for key, (name, array) in enumerate(arrays.items()):
        place = f"(Vstorage\nctorch\nFloatStorage\nV{key}\nVcpu\nI{array.size}\ntQ"
        shape = "".join(f"I{length}\n" for length in array.shape)
        strides = "".join(f"I{stride // 4}\n" for stride in array.strides)
        arguments = f"({place}I0\n({shape}t({strides}tI00\nccollections\nOrderedDict\n)Rt"
        tensor = f"ctorch._utils\n_rebuild_tensor_v2\n{arguments}R"
        pickled += f"V{name}\n{tensor}s".encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("alexnet/data.pkl", pickled + b".")
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"alexnet/data/{key}", (array if storage is None else storage).tobytes())
    return stream.getvalue()


@pytest.fixture
def state() -> dict[str, np.ndarray]:
    random, channels, arrays = np.random.default_rng(0), 3, {}
    for (filters, size, *_), place in zip(CONVOLUTIONS, IN_TORCH, strict=True):
        kernel = random.normal(size=(filters, channels, size, size)) / np.sqrt(channels * size**2)
        arrays[f"features.{place}.weight"] = kernel.astype(np.float32)
        arrays[f"features.{place}.bias"] = random.normal(scale=0.1, size=filters).astype(np.float32)
        channels = filters
    return arrays


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """x (channels, height, width), kernel (filters, channels, size, size), as PyTorch defines it."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.maximum(np.einsum("cyxij,fcij->fyx", windows, kernel, optimize=True) + bias[:, None, None], 0)


def pooled(x: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))


def test_features_are_those_of_torchvision(tmp_path, state):
    (tmp_path / "alexnet.pth").write_bytes(torch_file(state))
    convert(tmp_path / "alexnet.pth", tmp_path / "alexnet.weights.h5")
    check_available(find("alexnet"), str(tmp_path / "alexnet.weights.h5"))
    parts = build_backbone(find("alexnet"), SIZE, str(tmp_path / "alexnet.weights.h5"))
    picture = np.random.default_rng(1).uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    x = ((picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)
    values = list(state.values())
    # The table of the paper's network: stride, padding, pooling.
    for number, (stride, padding, pools) in enumerate(
        [(4, 2, True), (1, 2, True), (1, 1, False), (1, 1, False), (1, 1, True)]
    ):
        x = convolved(x, values[2 * number], values[2 * number + 1], stride, padding)
        x = pooled(x) if pools else x
    assert x.shape == (256, 2, 2)
    found = parts.model(picture[None])[0]
    np.testing.assert_allclose(found, x.transpose(1, 2, 0), atol=1e-6 * np.abs(x).max(), rtol=1e-5)


@pytest.mark.parametrize(("left_out", "target"), [("features.6.bias", "alexnet.weights.h5"), (None, "alexnet.pt")])
def test_the_command_says_in_a_sentence_what_it_cannot_convert(tmp_path, state, left_out, target, monkeypatch, capsys):
    state.pop(left_out, None)
    (tmp_path / "alexnet.pth").write_bytes(torch_file(state))
    monkeypatch.setattr(sys, "argv", ["alexnet", str(tmp_path / "alexnet.pth"), str(tmp_path / target)])
    with pytest.raises(SystemExit) as stopped:
        run_command(main)
    assert stopped.value.code == USAGE_STATUS
    assert f"error: '{tmp_path}/alexnet.pth' cannot become '{tmp_path / target}': " in capsys.readouterr().err


def test_a_file_of_torch_gives_its_arrays(state):
    read = read_state_dict(torch_file(state))
    assert read.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(read[name], array)


class Hostile:
    def __reduce__(self):
        return os.system, ("false",)


def test_nothing_in_a_file_of_torch_is_executed(state):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(Hostile()))
    with pytest.raises(pickle.UnpicklingError, match="system' is not allowed in this file"):
        read_state_dict(stream.getvalue())
    with pytest.raises(pickle.UnpicklingError, match="an array reaches beyond its storage"):
        read_state_dict(torch_file({"a": np.ones(8, np.float32)}, np.ones(4, np.float32)))
