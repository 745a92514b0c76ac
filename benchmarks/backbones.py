"""Pictures per second of every backbone through the frozen pass, at the size it was trained at: the README's table.

`python -m benchmarks.backbones` measures what `backbones.csv` beside this file does not have yet, and adds it there;
delete the file to measure all of them on a machine of your own. Weights are random: the speed is the same.
"""

import argparse
import csv
from pathlib import Path

from app.cli import run_command
from benchmarks.machine import best_seconds
from models.backbones import TABLE, Backbone

MEASURED = Path(__file__).parent / "backbones.csv"
COLUMNS = ("backbone", "pictures_per_second")
CALLS = 2


def measured() -> dict[str, float]:
    """Pictures per second of those that were measured, by name."""
    if not MEASURED.exists():
        return {}
    with MEASURED.open(newline="", encoding="utf-8") as file:
        return {row["backbone"]: float(row["pictures_per_second"]) for row in csv.DictReader(file)}


def main() -> None:
    """Measures what is missing, the small ones first."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from app.terminal import import_tensorflow

    import_tensorflow()
    rates = measured()
    for backbone in sorted(TABLE, key=lambda backbone: backbone.parameters):
        if backbone.name not in rates:
            rates[backbone.name] = pictures_per_second(backbone)
            print(f"{backbone.name:<20} {rates[backbone.name]:8.1f} pictures/s", flush=True)
            with MEASURED.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(COLUMNS)
                writer.writerows(
                    (backbone.name, f"{rates[backbone.name]:.3g}") for backbone in TABLE if backbone.name in rates
                )


def pictures_per_second(backbone: Backbone) -> float:
    """Measures one network, float32, in batches as the frozen pass has them.

    Args:
        backbone: of the table.
    """
    import keras
    import tensorflow as tf

    from features.forward_pass import BATCH_SIZE, frozen_function
    from models import backbones

    keras.utils.clear_session()
    network = backbones.build(backbone, backbone.image_size).model
    compute = frozen_function(keras.Model(network.inputs[0], keras.layers.GlobalAveragePooling2D()(network.output)))
    batch = tf.random.uniform((BATCH_SIZE, backbone.image_size, backbone.image_size, 3), 0, 255)
    return BATCH_SIZE / best_seconds(lambda: compute(batch)[0], CALLS)


if __name__ == "__main__":
    run_command(main)
