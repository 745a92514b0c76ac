"""Temperature scaling (Guo et al., 2017): one number that makes a model as sure as it is right.

The outputs' logits are divided by a temperature, which changes no answer, only how sure it is. The temperature is
worked into the last layer's weights, so that whoever has the model has it calibrated.
"""

import keras
import numpy as np
from scipy.optimize import minimize_scalar

from app.config import Task
from devices.precision import OUTPUT_LAYER

LIMITS = (0.05, 20.0)
"""Of the temperature."""
SPREAD = 0.5
"""Standard deviation of the temperature's logarithm that is expected before any picture is seen."""


def fit_temperature(
    outputs: np.ndarray, targets: np.ndarray, task: Task, sample_weights: np.ndarray | None = None
) -> float:
    """Finds the temperature at which predictions of unseen pictures have the lowest log loss.

    A few pictures that are all right would ask for boundless certainty. So the temperature is expected to be near 1
    (a normal prior on its logarithm), which matters the less the more pictures there are.

    Args:
        outputs: float32 (n, num_outputs), probabilities.
        targets: float32 (n, num_outputs), 0 or 1.
        task: decides what the outputs mean.
        sample_weights: float32 (n,), of mean 1; None counts every picture once.

    Returns:
        Above 1 for a model that was too sure; 1 for no pictures.
    """
    if len(outputs) == 0:
        return 1.0
    right = targets > 0.5
    weights = np.ones(len(targets)) if sample_weights is None else sample_weights

    def loss(exponent: float) -> float:
        scaled = np.clip(apply_temperature(outputs, np.exp(exponent), task), 1e-15, 1 - 1e-15)
        given = scaled[right][:, None] if task == "multiclass" else np.where(right, scaled, 1 - scaled)
        return float(-(np.log(given) * weights[:, None]).sum() + 0.5 * (exponent / SPREAD) ** 2)

    return float(np.exp(minimize_scalar(loss, bounds=tuple(np.log(LIMITS)), method="bounded").x))


def apply_temperature(outputs: np.ndarray, temperature: float, task: Task) -> np.ndarray:
    """Divides the logits of probabilities by a temperature; by one over it, that is undone.

    Args:
        outputs: float (n, num_outputs), probabilities.
        temperature: above 0.
        task: decides what the outputs mean.

    Returns:
        float64, same shape.
    """
    tiny = np.finfo(np.float32).tiny
    outputs = outputs.astype(np.float64)
    if task == "multiclass":
        powers = np.log(np.maximum(outputs, tiny)) / temperature
        powers = np.exp(powers - powers.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    logits = np.log(np.maximum(outputs, tiny)) - np.log(np.maximum(1 - outputs, np.finfo(np.float32).eps / 2))
    return 1 / (1 + np.exp(-logits / temperature))


def calibrate_head(head: keras.Sequential, temperature: float) -> None:
    """Divides the logits of a head by a temperature, for good."""
    output = head.get_layer(OUTPUT_LAYER)
    output.set_weights([weights / np.float32(temperature) for weights in output.get_weights()])
