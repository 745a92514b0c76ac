"""Which weight files Keras would download."""

import importlib

import keras
import pytest

from models.backbones import Backbone, build


def files_asked_for(backbone: Backbone, image_size: int, include_top: bool, monkeypatch) -> list[str]:
    """Builds a network with ImageNet weights, offline, and returns the names of the files that Keras wants for it."""
    asked = []

    def get_file(name, *_, **__):
        asked.append(name)
        raise FileNotFoundError

    module = importlib.import_module(getattr(keras.applications, backbone.builder).__module__)
    if backbone.module == "resnet_v2":
        module = importlib.import_module("keras.src.applications.resnet")
    monkeypatch.setattr(module.file_utils, "get_file", get_file)
    with pytest.raises(FileNotFoundError):
        build(backbone, image_size, weights="imagenet", include_top=include_top)
    return asked
