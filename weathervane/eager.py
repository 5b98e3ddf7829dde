"""torch's optimisers without the front end of torch.compile.

Their first call imports torch._dynamo, for seconds, only to tell it to leave them alone.
"""

import inspect
from typing import Any

import torch
from torch.optim import Optimizer


def eager(kind: type[Optimizer]) -> type[Optimizer]:
    """An optimiser that computes what `kind` does; marks torch's own methods of all optimisers in this process.

    Where another torch hides the mark elsewhere, torch._dynamo is imported after all.
    """
    for method in vars(Optimizer).values():
        if inner := getattr(method, "__wrapped__", None):
            # torch._compile imports torch._dynamo only where this attribute is missing.
            inner.__dynamo_disable = inner
    plain = inspect.unwrap(kind.step)

    @torch.no_grad()
    def step(self: Optimizer, closure: Any = None) -> Any:
        return plain(self, closure)

    return type(kind.__name__, (kind,), {"step": step})
