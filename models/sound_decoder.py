"""The decoder of Whisper (Radford et al., 2022): from the encoder's output for a recording to the scores of tokens.

It predicts one token at a time for one recording, and caches the keys and values of earlier tokens.
"""

import numpy as np
import tensorflow as tf
from keras import layers, ops

from app.spectrogram import RATE
from models.sound_encoder import STRIDE, trained_encoder
from models.sound_weights import Architecture, State, form_of, whisper_weights
from models.text_encoder import EncoderBlock


class DecoderBlock(EncoderBlock):
    """Self-attention, cross-attention to the encoder's output, and two dense layers, each behind a norm and with a
    residual.

    Vectors are (places, width), without a batch dimension.
    """

    def build(self, shape):
        super().build([shape])
        width = shape[-1]
        for name, units in {"ask": width, "tell": 2 * width, "listen": width}.items():
            layer = layers.Dense(units, name=name, dtype=self.dtype_policy)
            layer.build((None, width))
            setattr(self, name, layer)
        self.heard_norm = layers.LayerNormalization(epsilon=self.epsilon, name="heard_norm", dtype=self.dtype_policy)
        self.heard_norm.build((None, width))

    def call(self, inputs):
        """Computes the vector of the last token.

        Args:
            inputs: that vector, (1, width); keys and values of earlier tokens, (2, tokens, width), and of the encoder's
                output, (2, places, width).

        Returns:
            The vector, and the keys and values of all tokens so far.
        """
        vector, kept, heard = inputs
        query, *own = ops.split(self.attend(self.attention_norm(vector)), 3, axis=-1)
        kept = ops.concatenate([kept, ops.stack(own)], axis=1)
        vector = vector + self.project(self._gathered(query, kept))
        vector = vector + self.listen(self._gathered(self.ask(self.heard_norm(vector)), heard))
        return vector + self.transformed(self.norm(vector)), kept

    def _gathered(self, query, told):
        """Returns the values weighted by the softmax of query and keys, (1, width)."""
        query, keys, values = (
            ops.transpose(ops.reshape(each, (-1, self.heads, each.shape[-1] // self.heads)), (1, 0, 2))
            for each in (query, told[0], told[1])
        )
        scores = ops.matmul(query * query.shape[-1] ** -0.5, ops.swapaxes(keys, -1, -2))
        return ops.reshape(ops.matmul(ops.softmax(scores), values), (1, -1))


class SoundDecoder(layers.Layer):
    """The whole decoder; see `call`."""

    def __init__(self, architecture: Architecture, vocabulary: int, **about):
        super().__init__(**about)
        self.architecture, self.vocabulary = architecture, vocabulary
        settings = architecture.heads, architecture.hidden, architecture.epsilon, "gelu"
        self.blocks = [DecoderBlock(*settings, name=f"block_{number + 1}") for number in range(architecture.depth)]
        self.norm = layers.LayerNormalization(epsilon=architecture.epsilon, name="last_norm")

    def build(self, shape=None):
        width = self.architecture.width
        self.words = self.add_weight(shape=(self.vocabulary, width), name="words")
        self.places = self.add_weight(shape=(self.architecture.positions, width), name="places")
        for layer in (*self.blocks, self.norm):
            layer.build((None, width))

    def hear(self, vectors):
        """Computes keys and values of the encoder's output, (places, width): (blocks, 2, places, width)."""
        return ops.stack([ops.stack(ops.split(block.tell(vectors), 2, axis=-1)) for block in self.blocks])

    def call(self, token, kept, heard):
        """Computes the scores of the next token, (vocabulary,).

        Args:
            token: number of the last token, ().
            kept: keys and values of earlier tokens, (blocks, 2, tokens, width), as returned for the previous one.
            heard: result of `hear`.

        Returns:
            The scores, and the keys and values to keep for the next token.
        """
        vector, told = (self.words[token] + self.places[ops.shape(kept)[2]])[None], []
        for number, block in enumerate(self.blocks):
            vector, of_block = block([vector, kept[number], heard[number]])
            told.append(of_block)
        return ops.matmul(self.words, self.norm(vector)[0]), ops.stack(told)


class Whisper:
    """A whole Whisper network as functions for one window of sound."""

    def __init__(self, state: State):
        """Builds the network with the weights of encoder and decoder."""
        self.seconds = form_of(state).positions * STRIDE / RATE
        """Length of a window, as in its training."""
        encoder = trained_encoder(state, round(1000 * self.seconds)).model
        values, form = whisper_weights(state, "decoder"), form_of(state, "decoder")
        self.decoder = decoder = SoundDecoder(form, len(values["words"]), name="decoder")
        decoder.build()
        for variable in decoder.variables:
            variable.assign(values[variable.path.removeprefix("decoder/")])
        self.nothing = np.zeros((form.depth, 2, 0, form.width), np.float32)
        """Keys and values before the first token."""
        self.hear = tf.function(lambda samples: decoder.hear(encoder(samples[None])[0, :, :-1]))
        """Turns float32 (samples,) in [-32768, 32767] into the input of `follow`."""
        kept = tf.TensorSpec((form.depth, 2, None, form.width))
        self.follow = tf.function(decoder, input_signature=(tf.TensorSpec((), "int32"), kept, kept))
        """Scores the next token; see `SoundDecoder.call`."""
