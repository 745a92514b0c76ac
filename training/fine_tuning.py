"""Defaults of fine-tuning: a row for each kind of input, and the number of layers that learn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from app.config import Effort, TrainableLayers
from app.errors import UsageError

if TYPE_CHECKING:
    from features.cuts import Cut  # which imports Keras


class FineTuning(NamedTuple):
    """Part of a network to fine-tune, and for how long, if the settings leave it open."""

    share: tuple[float, float]
    """Range of the last layers' share of the computation."""
    epochs: int
    """Epochs of the last layers."""
    deeper_epochs: dict[Effort, int]
    """Epochs of the whole network in the phase after that, by effort."""
    goes_deeper: tuple[Effort, ...]
    """Efforts that train the whole network."""
    varies: bool = True
    """Whether the network also learns from varied views of each example."""


_IMAGE = FineTuning((0.08, 0.2), 2, {"quick": 0, "standard": 4, "best": 20}, ("standard", "best"))
FINE_TUNING = {
    "image": _IMAGE,
    "sound": _IMAGE._replace(varies=False),
    "text": FineTuning((0.4, 0.55), 3, {"quick": 0, "standard": 4, "best": 4}, ("best",)),
}
"""Rows by the kind of input; another kind is treated as the first.

Pictures: the cut is where the fewest numbers cross within the share, the first of equals: on the animals, a fifth of
the work gets 0.2 points more right than an eighth. Earlier layers see edges and textures, which are the same
everywhere: on CIFAR-10, a third ends at the accuracy of a seventh, in three times the time. On 5,000 pictures of
CIFAR-10, MobileNet's head ends at 76 % on val, its last 14 % at 78 % after three epochs, its last 64 % at 81 % after
three and the whole at 82 % after four, which takes a third longer. Of 1,600 pictures of val and test, 84.0 % are right
after twelve epochs, 84.5 % after twenty, and 85.7 % with mirror images. Twice the rate and mixup end there as well,
cutmix with tighter crops below. Of the test pictures of the animals, 99.3 % are right after four and 99.4 % after six
epochs, and 98.4 % without.

Texts: on 3,210 sentences of film reviews, 80.4 % of val are right with the solved head of MiniLM, 83.7 % with its
last two of six blocks and 84.7 % with three, each after three epochs; at twice the rate, or in four epochs, it
overfits. The whole network, after the last block, ends at 83.4 %, in four times the time.

Recordings: of 800 spoken digits of people never heard, 95.4 % are right from one view, and 95.6 % from three."""


def fine_tuning_of(kind: str) -> FineTuning:
    """Returns the row for a kind of input."""
    return FINE_TUNING.get(kind, FINE_TUNING["image"])


def layers_to_fine_tune(cuts: "Sequence[Cut]", share: tuple[float, float]) -> int:
    """Returns the number of layers behind the best cut of those that leave such a share of the work."""
    least, most = share
    late = [cut for cut in cuts if cut.share_after <= most]
    good = [cut for cut in late if cut.share_after >= least] or [max(late, key=lambda cut: cut.share_after)]
    return min(good, key=lambda cut: (cut.values, cut.position)).layers_after


def check_trainable_layers(
    trainable_layers: TrainableLayers | None,
    cuts: "Sequence[Cut]",
    backbone: str,
    flag: str = "--trainable-layers",
) -> None:
    """Raises a UsageError if a backbone has fewer layers than are to be trained."""
    most = 1 + max(cut.layers_after for cut in cuts)
    if isinstance(trainable_layers, int) and trainable_layers > most:
        raise UsageError(
            f"{flag} must be 'all', or at most {most}, all layers of {backbone}; received {trainable_layers}."
        )
