"""A network for pictures that gets the spectrogram of a recording: `--backbone as_image:NAME`."""

import keras
from keras import ops

from app.spectrogram import PICTURE_LAYER, RATE
from models.own_layers import own_part
from models.parts import Parts
from models.sound_encoder import LogMel


@own_part
class SoundPicture(keras.layers.Layer):
    """Turns spectrograms (n, frames, bands), about -1 to 1.5, into square pictures in [0, 255], low bands below."""

    exact = True  # computes in float32 in every precision, see `devices.precision`

    def __init__(self, size: int, **about):
        super().__init__(**about)
        self.size = size

    def call(self, levels):
        grey = ops.flip(ops.swapaxes(levels, 1, 2), axis=1)[..., None]
        sized = ops.image.resize(
            ops.clip((grey + 1) * 102, 0, 255), (self.size, self.size), data_format="channels_last"
        )
        return ops.repeat(sized, 3, axis=-1)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def heard_as_picture(parts: Parts, milliseconds: int) -> Parts:
    """Turns a network for pictures into one for recordings of the given length; its layers are shared."""
    samples = keras.Input((milliseconds * RATE // 1000,), name="sounds")
    size = parts.model.inputs[0].shape[1]
    log_mel, seen = LogMel(name="log_mel", dtype="float32"), SoundPicture(size, name=PICTURE_LAYER, dtype="float32")
    picture = seen(log_mel(samples))

    blocks = [[log_mel, seen, *parts.blocks[0]], *parts.blocks[1:]]
    networks = [network for network in (parts.model, parts.whole) if network is not None]  # which share layers
    functions = [keras.Function(network.inputs, network.output) for network in networks]
    for operation in [operation for network in networks for operation in network.operations]:
        operation._inbound_nodes.clear()  # a layer describes only its first call: make it the one below
    model, *whole = (keras.Model(samples, function.call([picture])) for function in functions)
    return parts._replace(model=model, blocks=blocks, whole=whole[0] if whole else None)
