"""Headstart against plain fine-tuning with KerasHub: same texts, tokens, split, weights and number of layers.

`python -m benchmarks.texts_vs_keras --data FILE.csv` runs in turn, each as a process of its own and timed as a whole,
KerasHub's BERT with the weights of MiniLM, `train.py` with an empty cache (cold) and the same command again (warm): for
the head alone, and for the last two blocks, or what `--depths` names. `--trials 50` also runs `tune.py` on them,
beside the time that as many runs of the peer, equally many of each, would take without the work of KerasTuner itself.

The peer gets tokens, shuffles them, fills each batch up to its longest text, and takes the epoch of the lowest val
loss. That is better than KerasHub's own preprocessing, which fills all texts up to one length.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from app.cli import run_command
from app.config import TrainConfig
from app.wheels import MINILM_WEIGHTS, read_wheel_file
from benchmarks.processes import ROOT, import_seconds, timed, timed_peer, train_timed
from data.arrays import Ragged
from models.text_weights import MINILM
from training.inputs import load_inputs

BATCH_SIZE = 32
EPOCHS = {0: 10, 2: 3}
"""Epochs of the peer by the number of blocks that learn; ours solves the head, and then has as many for the blocks."""
RATES = {0: 1e-3, 2: 5e-5}
CONFIG = {
    **{"model_type": "bert", "vocab_size": MINILM.vocabulary, "hidden_size": MINILM.width, "type_vocab_size": 2},
    **{"num_hidden_layers": MINILM.depth, "num_attention_heads": MINILM.heads, "intermediate_size": MINILM.hidden},
    **{"max_position_embeddings": MINILM.positions, "hidden_dropout_prob": 0.1, "pad_token_id": 0},
}


def main() -> None:
    """Runs all sides and prints accuracy, seconds and ratios; with `--peer`, runs the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="docstrings")
    parser.add_argument("--depths", type=int, nargs="+", choices=EPOCHS, default=list(EPOCHS), help="blocks that learn")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=0, help="of a search; 0 for none")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--blocks", type=int, choices=EPOCHS, default=0, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.peer:
        print(json.dumps(run_peer(flags.peer, flags.blocks, flags.seeds)))
        return
    with tempfile.TemporaryDirectory() as place:
        _compare(flags, Path(place))


def _compare(flags: argparse.Namespace, scratch: Path) -> None:
    data = load_inputs(TrainConfig.of(data=flags.data, split_seed=0, cache_dir=scratch / "prepare")).data
    (tokens,) = data.inputs
    splits: dict[str, Any] = {f"rows_{name}": rows for name, rows in data.splits.items()}
    assert isinstance(tokens, Ragged)
    arrays: dict[str, Any] = {
        "values": tokens.values,
        "offsets": tokens.offsets,
        "labels": data.targets.reshape(-1).astype(np.int32),
    }
    np.savez(scratch / "texts.npz", **arrays, **splits)
    (scratch / "config.json").write_text(json.dumps(CONFIG))
    (scratch / "model.safetensors").write_bytes(read_wheel_file(MINILM_WEIGHTS))
    ours = ["--data", flags.data, "--split-seed", "0", "--batch-size", str(BATCH_SIZE)]
    importing, peers = import_seconds(), {}
    print(f"Importing TensorFlow and Keras takes {importing:.1f} s of each process.")
    for blocks in flags.depths:
        for seed in range(flags.seeds):
            peer = [sys.executable, "-m", "benchmarks.texts_vs_keras", "--peer", str(scratch)]
            found, seconds = timed_peer([*peer, "--blocks", str(blocks), "--seeds", str(seed)])
            peers[blocks] = found["seconds"]
            _say(f"{blocks} blocks, KerasHub", found["accuracy"], seconds, seconds, importing)
            for name in ("cold", "warm"):
                cache, run = scratch / f"cache{blocks}-{seed}", scratch / f"run{blocks}-{seed}-{name}"
                command = [sys.executable, str(ROOT / "train.py"), *ours, "--seed", str(seed)]
                command += ["--trainable-layers", str(blocks), "--fine-tune-epochs", str(EPOCHS[2])]
                record, own = train_timed(command, run, cache)
                _say(f"{blocks} blocks, {name}", record["test"]["accuracy"], own, seconds, importing)
    if flags.trials:
        command = [sys.executable, str(ROOT / "tune.py"), *ours, "--max-trials", str(flags.trials)]
        command += ["--trainable-layers", *map(str, flags.depths), "--head-epochs", str(EPOCHS[0])]
        command += ["--fine-tune-epochs", str(EPOCHS[2]), "--cache-dir", str(scratch / "tune")]
        _, own = timed([*command, "--output", str(scratch / "search")])
        record = json.loads((scratch / "search" / "search.json").read_text())
        extended = importing + flags.trials * sum(peers.values()) / len(peers)
        _say(f"{flags.trials} trials", record["retrained"]["test"], own, extended, importing)


def _say(what: str, accuracy: float, seconds: float, peer: float, importing: float) -> None:
    ratio, inner = peer / seconds, (peer - importing) / (seconds - importing)
    print(f"{what:<22}{accuracy:>8.2%} of test {seconds:>8.1f} s {ratio:>6.1f}x, without imports {inner:>6.1f}x")
    sys.stdout.flush()


def run_peer(folder: Path, blocks: int, seed: int) -> dict[str, Any]:
    """Fine-tunes KerasHub's network, and returns what it gets right of test, and its seconds without imports."""
    import keras
    import keras_hub
    import tensorflow as tf
    from keras import ops

    started = time.perf_counter()
    keras.utils.set_random_seed(seed)
    found = np.load(folder / "texts.npz")
    texts, labels = tf.RaggedTensor.from_row_splits(found["values"], found["offsets"]), found["labels"]

    def fill(rows: tf.RaggedTensor, label: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        tokens = rows.to_tensor()
        mask = tf.cast(tokens != 0, tf.int32)
        return {"token_ids": tokens, "segment_ids": tf.zeros_like(tokens), "padding_mask": mask}, label

    def batches(split: str) -> tf.data.Dataset:
        rows = found[f"rows_{split}"]
        examples = tf.data.Dataset.from_tensor_slices((tf.gather(texts, rows), labels[rows]))
        examples = examples.shuffle(len(rows), seed=seed) if split == "train" else examples
        return examples.batch(BATCH_SIZE).map(fill).prefetch(tf.data.AUTOTUNE)

    backbone = keras_hub.models.BertBackbone.from_preset(str(folder))
    for layer in backbone.layers:
        layer.trainable = layer in backbone.transformer_layers[len(backbone.transformer_layers) - blocks :]
    inputs = backbone.input
    mask = ops.expand_dims(ops.cast(inputs["padding_mask"], "float32"), -1)
    mean = ops.sum(backbone(inputs)["sequence_output"] * mask, axis=1) / ops.sum(mask, axis=1)
    outputs = keras.layers.Dense(int(labels.max()) + 1)(keras.layers.Dropout(0.1)(mean))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(RATES[blocks]), loss, metrics=["accuracy"])
    keep = keras.callbacks.EarlyStopping("val_loss", patience=EPOCHS[blocks], restore_best_weights=True)
    model.fit(batches("train"), validation_data=batches("val"), epochs=EPOCHS[blocks], callbacks=[keep], verbose=0)
    accuracy = model.evaluate(batches("test"), verbose=0)[1]
    return {"accuracy": accuracy, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    run_command(main)
