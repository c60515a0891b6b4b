"""Training, shared by every task: one loop with checkpoints, resume, averaging, and several processes."""

from .loop import Options, Task, train

__all__ = ["Options", "Task", "train"]
