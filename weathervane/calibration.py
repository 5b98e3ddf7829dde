"""Temperature scaling: one number, fitted on validation, that makes a network's probabilities honest.

Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv 1706.04599). Which class is the most probable
stays as it was. Legend: N = images, K = classes.
"""

import math

import numpy as np
from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST = 0.05, 20.0  # beyond them probabilities are 0 and 1, or all alike


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The T for which softmax(logits / T) gives the labels the highest likelihood.

    Each counts as right by (N + 1) / (N + 2) only (Platt 1999, Probabilistic outputs for support vector machines):
    where all answers are right, or the few wrong ones are nearly so, ever smaller T would do better, and later mistakes
    would be made with certainty.

    Args:
        logits: float32 [N, K].
        labels: int64 [N], 0..K-1.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = logits.detach().cpu().double(), labels.cpu()
    n, classes = logits.shape
    doubt = classes / (classes - 1) / (n + 2)

    def loss(log_t: float) -> float:
        return F.cross_entropy(logits / math.exp(log_t), labels, label_smoothing=doubt).item()

    # The likelihood is concave in 1 / T, and so has one top in log T, too.
    found = minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    return math.exp(found.x)


def untempered(probability: np.ndarray, temperature: float) -> np.ndarray:
    """What a model's probabilities [N, K] were before they were tempered: softmax of its logits."""
    raised = probability.astype(np.float64) ** temperature
    return raised / raised.sum(1, keepdims=True)
