"""A step as one launch: what a GPU did for it once is recorded, and done again by itself (a CUDA graph).

A step of a small network is hundreds of kernels of a few microseconds each. The host needs longer to launch them than
the GPU to run them; a recording leaves that out, and computes the same to the last bit.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from weathervane.device import out_of_memory
from weathervane.errors import TrainingError, in_brief

SEEN = 3  # calls before the recording: libraries choose their kernels, optimisers make their state


class GraphRecorder:
    """Calls work on tensors; with `on`, from the fourth time on as a recording of it.

    Work that is recorded reads whatever else it uses where it lay then, launches the same again, and must not wait for
    the device or decide anything by what it finds there. Random numbers of torch's own generators go on.
    """

    def __init__(self, on: bool, notes: list[str] | None = None) -> None:
        """`notes`: where it is said that something could not be recorded."""
        self._on, self._notes = on, [] if notes is None else notes
        self._made: dict[str, tuple[Hashable, _Recording]] = {}

    def run(self, name: str, work: Callable[..., Tensor], *given: Tensor, like: Hashable = None) -> Tensor:
        """What `work` makes of `given`. A recording under this name counts as long as shapes and `like` are equal.

        Where there is too little memory for a recording, none is made, and the work goes on as before.

        Raises:
            TrainingError: the work cannot be recorded.
        """
        if not self._on:
            return work(*given)
        key = (like, *(one.shape for one in given))
        held, recording = self._made.get(name, (None, None))
        if recording is None or held != key:
            self._made.pop(name, None)  # first, so that its memory is free
            recording = _Recording(name, work, self._notes)
            self._made[name] = key, recording
        return recording(*given)

    def forget(self) -> None:
        """Give back the memory of all recordings."""
        self._made.clear()


class _Recording:
    def __init__(self, name: str, work: Callable[..., Tensor], notes: list[str]) -> None:
        self._name, self._work, self._notes = name, work, notes
        self._seen, self._stream = 0, torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *given: Tensor) -> Tensor:
        if self._seen == SEEN:
            self._record(given)
        self._seen += 1
        if self._graph is None:
            return self._beside(given)
        for place, one in zip(self._given, given, strict=True):
            place.copy_(one)
        self._graph.replay()
        return self._result.clone()

    def _beside(self, given: tuple[Tensor, ...]) -> Tensor:
        """On the stream that the recording is made on, where whatever `work` keeps for later has to come from."""
        usual = torch.cuda.current_stream()
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            result = self._work(*given)
        usual.wait_stream(self._stream)
        return result

    def _record(self, given: tuple[Tensor, ...]) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            self._given = [one.clone() for one in given]
            usual = torch.cuda.stream(torch.cuda.current_stream())  # back to it, also from a recording that fails
            with usual, torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._result = self._work(*self._given)
            self._graph = graph
        except RuntimeError as error:
            if not out_of_memory(error):
                raise TrainingError(
                    f"a step cannot be recorded on the GPU ({in_brief(error)}): train without that by train.record: "
                    "false"
                ) from None
            told = f"out of memory for a recording ({self._name}): the host launches it kernel by kernel"
            self._notes.append(told)
        if self._graph is None:
            self._given = []
            torch.cuda.empty_cache()
