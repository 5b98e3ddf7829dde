"""When a training writes checkpoints, and how it goes on from one."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from weathervane import checkpoint
from weathervane.machine import processor
from weathervane.progress import say
from weathervane.state import State, content, restore, tensors

FORMAT = 4
LONG = 60.0  # seconds after which an epoch that is not over yet gets a checkpoint, if writing takes little of them
SHARE = 0.05  # of the training's time that checkpoints may take; shorter epochs share one
RATE = 1e8  # bytes a second at which the first one is taken to be written; the others as the one before


class Checkpoints:
    """The checkpoints of one training, in a folder of their own; `identity` says which training that is."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        self._last, self._cost = time.perf_counter(), 0.0  # when one was last written, and what it took

    def resume(self, state: State) -> None:
        """Bring a fresh state to the newest checkpoint that is whole; leave it fresh where there is none.

        What a person should know of it is added to the state's notes.
        """
        found, damaged = checkpoint.newest(self.folder)
        for note in damaged:
            say(note)
        if found is None:
            state.notes += damaged
            return
        held, rest = found
        if (rest["format"], rest["identity"]) != (FORMAT, self.identity):
            say("the checkpoints are of other parameters, data or code: training starts anew")
            return
        restore(state, held, rest["state"])
        here, alone = machine(state), not state.several
        then = {key: rest["machine"].get(key, "not on record") for key in here}
        other = [f"{key} {then[key]} → {here[key]}" for key in here if here[key] != then[key]]
        if (here["device"] != "cpu" or not alone) and not other:
            ahead = "a GPU draws ahead, and its sums have no fixed order"
            other = [ahead if alone else "several processes draw other numbers"]
        exact = f"not bit-exact: {', '.join(other)}" if other else "bit-exact"
        state.notes += [*damaged, f"went on in epoch {state.epoch + 1}, after step {state.steps} ({exact})"]
        say(state.notes[-1])

    def due(self) -> bool:
        """True if an epoch takes so long that it should not wait for its end."""
        return time.perf_counter() - self._last > max(LONG, self._cost / SHARE)

    def save_if_cheap(self, state: State) -> None:
        """A checkpoint at an epoch's end, unless the last one is so recent that writing costs more than it saves."""
        cost = self._cost or sum(one.nbytes for one in tensors(state).values()) / RATE
        if time.perf_counter() - self._last >= cost / SHARE:
            self.save(state)

    def save(self, state: State) -> None:
        """Write one; the time that takes is not the loop's."""
        state.count_time()
        rest: dict[str, Any] = {"format": FORMAT, "identity": self.identity}
        rest |= {"machine": machine(state), "state": content(state)}
        checkpoint.write(self.folder, state.steps, tensors(state), rest)
        self._last = time.perf_counter()
        self._cost, state.since = self._last - state.since, self._last


def machine(state: State) -> dict[str, str]:
    """What the last bit of a result depends on besides parameters, data and code."""
    device = state.generator.device
    return {
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "processes": str(distributed.get_world_size() if state.several else 1),
        "threads": str(torch.get_num_threads()),
        "precision": state.precision,
        "torch": torch.__version__,
    }
