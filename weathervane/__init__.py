"""Weather photographs in, classifiers out: plain PyTorch and images, without any of the three engines."""
