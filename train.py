"""Trains an image classifier on a pretrained backbone: `python train.py --data photos --backbone resnet50`."""

from cli import import_tensorflow, parse_config, run_command


def main() -> None:
    """Parses the flags, checks and decodes the data, and only then loads TensorFlow and trains."""
    config = parse_config()
    from training.preparation import prepare_run

    preparation = prepare_run(config)
    import_tensorflow()
    from training.run import train

    train(preparation)


if __name__ == "__main__":
    run_command(main)
