"""The tasks that a model is trained for: targets, outputs, losses, metrics and calibration of each."""
