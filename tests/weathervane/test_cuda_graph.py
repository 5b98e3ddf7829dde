"""Which recording counts for what; that they compute the same is shown on a GPU, by test_gpu.py."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from weathervane import cuda_graph
from weathervane.cuda_graph import GraphRecorder


def test_without_a_gpu_work_is_just_done() -> None:
    """Nothing is kept, and the result is the work's own."""
    result = torch.ones(2)
    assert GraphRecorder(False).run("any", lambda given: result, torch.zeros(3)) is result


def test_a_recording_is_of_its_name_its_shapes_and_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another shape, or work said to be other work, is recorded anew, and the old one goes; names stand apart."""
    made = []

    class Counted:
        def __init__(self, name: str, work: Callable[..., Tensor], *_: object) -> None:
            self.work = work
            made.append(self)

        def __call__(self, *given: Tensor) -> Tensor:
            return self.work(*given)

    monkeypatch.setattr(cuda_graph, "_Recording", Counted)
    recorder = GraphRecorder(True)
    for name, size, like in (("a", 3, 1), ("a", 3, 1), ("b", 3, 1), ("a", 3, 1), ("a", 4, 1), ("a", 4, 2), ("b", 3, 1)):
        assert recorder.run(name, lambda given: given * 2, torch.ones(size), like=like).tolist() == [2.0] * size
    assert len(made) == 4
    recorder.forget()
    recorder.run("b", lambda given: given, torch.ones(3), like=1)
    assert len(made) == 5
