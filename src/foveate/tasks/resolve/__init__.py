"""What does "it" stand for? A small encoder that learned it, and how it was made."""

from .resolution import Candidate, Look, Resolution, load_builtin, resolve

__all__ = ["Candidate", "Look", "Resolution", "load_builtin", "resolve"]
