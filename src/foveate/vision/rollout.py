"""Rollout as one more call of a recording, so that it is looked at like any other."""

from __future__ import annotations

from foveate.faithful import rollout
from foveate.recording import CallInfo, Recording
from foveate.views.given import call_of

__all__ = ["with_rollout"]


def with_rollout(seen: Recording, *, under: str | None = None) -> Recording:
    """The recording with the rollout of a stack of its layers as the last call, "rollout", of one head.

    The calls are shared, not copied; the result lives in memory and cannot be saved.

    Args:
        under: the path that the stack's modules lie under, where there are several ("vision_model").

    Raises:
        ValueError: as `foveate.faithful.rollout`.
    """
    table = rollout(seen, under=under)[:, None]
    return seen.extended(call_of(CallInfo("rollout", "encoder", "rollout", None, 1, "rollout"), table))
