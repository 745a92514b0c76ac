"""Named data sets of TensorFlow Datasets: `tfds:NAME`, `tfds:NAME/CONFIG` or `tfds:NAME:VERSION`.

Pictures, texts or recordings are written to files once, unchanged. TensorFlow Datasets downloads a data set that is not
prepared yet, and stores it in the folder that its environment variable TFDS_DATA_DIR names.
"""

import concurrent.futures
import functools
import itertools
import logging
import multiprocessing
import os
import re
import socket
import textwrap
from pathlib import Path
from typing import Any

from app.errors import UsageError
from app.terminal import console, import_tensorflow
from data import folder
from data.boxes import coco, tfds_boxes
from data.sounds.wav import encode_wav
from data.sources import SPLIT_FOLDERS, Source
from data.unpack import ending_of, folder_names, unpack_once, write_example

IS_NAME = HAS_COLUMNS = True
STALL_SECONDS = 10.0
"""Seconds without progress after which a download is tried again."""
USUAL_RATE = 16_000
"""Default samples per second, if a data set does not say."""
RETRIES = 3
"""Number of retries of a download; by itself, TensorFlow Datasets would retry for three and a half minutes."""


def accepts(data: str) -> bool:
    """Says whether `--data` means this source."""
    return data.startswith("tfds:")


def load(data: str, cache_dir: Path, outside: bool = False, text_column: str | None = None) -> Source:
    """Prepares a named data set, writes its examples below `cache_dir`, the first time, and reads them as a folder.

    With a `text_column`, that feature is classified.

    Raises:
        UsageError: there is no such data set, it cannot be downloaded, or its examples are neither one picture, text
            or recording with one class label, nor one picture with boxes.
    """
    name = data.removeprefix("tfds:")
    builder = _prepared_builder(name)
    boxes = tfds_boxes.find_keys(builder.info.features) if text_column is None else None
    keys = boxes or _example_and_label(name, builder.info.features, text_column)
    title = re.sub(r"\W+", "-", f"{builder.info.full_name}-{text_column or ''}".strip("-"))

    def write_files(target: Path) -> None:
        # In its own process: reading a data set starts TensorFlow, but a run must choose its devices before that.
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            process.submit(_read_and_write, name, keys, target).result()

    root = unpack_once(cache_dir / "data" / f"tfds-{title}", write_files)
    path = next(root.glob("*/instances.json"), None) or root
    source = folder.load(str(root), cache_dir) if boxes is None else coco.load(str(path), cache_dir)
    return source._replace(name=re.sub(r"\W+", "-", name))


def _prepared_builder(name: str) -> Any:
    os.environ.setdefault("NO_GCE_CHECK", "true")  # else Google's client looks for a metadata server, for minutes
    import_tensorflow()
    import tensorflow_datasets
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = RETRIES
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if not console.is_terminal:
        tensorflow_datasets.disable_progress_bar()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        builder = tensorflow_datasets.builder(name, try_gcs=False)
        builder.download_and_prepare()
        return builder
    except tensorflow_datasets.core.DatasetNotFoundError:
        raise UsageError(f"--data names '{name}', which TensorFlow Datasets neither knows nor has prepared.") from None
    except Exception as error:  # a data set's builder may raise any exception
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 150, placeholder=" ...")
        raise UsageError(
            f"The data set '{name}' cannot be prepared ({reason}). Without a network, copy a prepared one to "
            f"the folder that the environment variable TFDS_DATA_DIR names, or take --data animals or a folder."
        ) from error
    finally:
        socket.setdefaulttimeout(None)


def _example_and_label(name: str, features: Any, text_column: str | None) -> tuple[str, str]:
    """Returns the keys of the example (picture, else recording, else text) and of the class label."""
    from tensorflow_datasets.core.features import Audio, ClassLabel, Image, Text

    keys_of = functools.partial(tfds_boxes.keys_of, features)
    texts = keys_of(Text, usual=text_column or "text")  # preferred to a title, for example
    examples = texts if text_column else keys_of(Image) or keys_of(Audio) or texts
    labels = keys_of(ClassLabel, usual="label")
    if len(examples) != 1 or len(labels) != 1 or examples[0] != (text_column or examples[0]):
        raise UsageError(
            f"A data set needs one picture, recording or text (which --text-column may name) and one class label per "
            f"example, or boxes; '{name}' has {', '.join(features)}."
        )
    return examples[0], labels[0]


def _read_and_write(name: str, keys: tuple[str, str] | tfds_boxes.BoxKeys, root: Path) -> None:
    builder = _prepared_builder(name)
    import tensorflow_datasets
    from tensorflow_datasets.core.features import Audio, Image

    feature = builder.info.features[keys[0]]
    decoders = {keys[0]: tensorflow_datasets.decode.SkipDecoding()} if isinstance(feature, Image) else None
    splits = [split for split in builder.info.splits if split in SPLIT_FOLDERS]
    number = itertools.count()
    for split in splits or ["all"]:
        # train/ is used even without other splits: a class may have the name of a split.
        target = root / (SPLIT_FOLDERS[split] if "train" in splits else "train")
        examples = tensorflow_datasets.as_numpy(builder.as_dataset(split=split, decoders=decoders))
        if isinstance(keys, tfds_boxes.BoxKeys):
            names = builder.info.features[keys.boxes].feature[keys.label].names
            tfds_boxes.write_coco(examples, keys, names, target)
            continue
        key, label_key = keys
        class_folders = folder_names(builder.info.features[label_key].names)
        for example in examples:
            label = int(example[label_key])
            if label >= 0:  # -1 where the labels of a test split are not published
                content = example[key]
                if isinstance(feature, Audio):
                    content, ending = encode_wav(content, feature.sample_rate or USUAL_RATE), ".wav"
                else:
                    ending = ending_of(content) if isinstance(feature, Image) else ".txt"
                write_example(target / class_folders[label], next(number), content, ending)
