"""torch's optimisers without the front end of torch.compile.

Their first call imports torch._dynamo, for seconds, only to tell it to leave them alone.
"""

import inspect
from typing import Any

import torch
from torch.optim import Optimizer


def eager(kind: type[Optimizer]) -> type[Optimizer]:
    """An optimiser that computes what `kind` does. Where another torch hides it elsewhere, it is imported after all."""
    for method in vars(Optimizer).values():
        if inner := getattr(method, "__wrapped__", None):
            inner.__dynamo_disable = (
                inner  # torch looks here first, and imports torch._dynamo only where it finds nothing
            )
    plain = inspect.unwrap(kind.step)

    @torch.no_grad()
    def step(self: Optimizer, closure: Any = None) -> Any:
        return plain(self, closure)

    return type(kind.__name__, (kind,), {"step": step})
