"""Tasks that a model is trained for: targets, outputs, losses, metrics and calibration, for each task that there is."""
