"""The families of networks: FAMILIES is the only list of them.

A family is a module with a pydantic schema `Network` (the `network:` section of a variant's YAML) and
`build(network, size, classes) -> torch.nn.Module`, which takes float32 [N, 3, size, size], normalised,
and gives logits [N, classes]. Schemas are read without importing torch, so `build` imports it itself. A
schema may have `check_size(size)`, which raises ValueError where network and image size do not go together,
and `any_size`, true where the network takes images of other sizes than the one it was built for, too.
A module may have `LEGACY_DEFAULTS`, the keys that models lack which were saved before there were such keys, with what
they then stood for, and `REQUIRES`, packages that its networks need beyond torch.

A network may have methods that a training asks for; one that has none of them is trained as a whole from scratch.
`pretrain()` is called once, before the first step, and never when a saved model is loaded; `param_groups()` gives lists
of parameters, each with a factor of the learning rate; `start_epoch(epoch)` is called when `epoch` epochs are
finished, of a network that is in training mode. On a GPU a step is recorded and replayed: a network that waits for the
device or decides by a value that lies there cannot be, and needs `train.record: false`.
"""

from importlib import import_module
from types import ModuleType

FAMILIES = {
    "ann": "weathervane.models.ann",
    "dnn": "weathervane.models.dnn",
    "cnn": "weathervane.models.cnn",
    "rnn": "weathervane.models.rnn",
    "lstm": "weathervane.models.lstm",
    "cnn_lstm": "weathervane.models.cnn_lstm",
    "transfer": "weathervane.models.transfer",
}


def family(name: str) -> ModuleType:
    """The module of a family.

    Raises:
        KeyError: not in FAMILIES.
    """
    return import_module(FAMILIES[name])
