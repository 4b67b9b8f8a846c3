"""fieldops: the field technician's tool for edge AI. The version stands here so that `--version` imports nothing else."""

__version__ = "0.1.0"
