"""What is asked of a model: targets, outputs, losses, metrics and calibration, for each task that there is."""
