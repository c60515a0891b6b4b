"""What a model wrote: the steps of a recorded generation as a page walks through them, and what to know of them."""

from __future__ import annotations

from collections.abc import Sequence

from foveate.recording import Recording
from foveate.recording.generation import Generation
from foveate.views.document import Call, Decoding, Step
from foveate.views.texts import Script

__all__ = ["decoding_of", "notes_on", "tokens_of"]


def decoding_of(
    generation: Generation | None, prompts: Sequence[int] | None, calls: Sequence[Call], script: Script
) -> Decoding | None:
    """The rows from which tokens came out, and what each read: the last one of the prompt, and those of the generated
    tokens. None if nothing was generated.

    `prompts`: how many tokens of each sequence were given, where one pass was recorded over what had been generated.
    """
    names = {} if generation is None else generation.joined
    if names:
        mine = [call for call in calls if call.name in names]
    elif prompts is not None and len(prompts) == len(script.texts):
        mine = [call for call in calls if call.kind != "encoder"]
    else:
        return None
    if not mine:
        return None
    first = next((call for call in mine if call.kind == "cross"), mine[0])
    steps = []
    for sequence, texts in enumerate(script.texts):
        start = script.starts[first.rows][sequence]
        end = min(first.offset + first.queries - start, len(texts.side(first.rows)))
        if generation is not None and names:
            begin = first.offset + generation.prompt - start
        else:
            assert prompts is not None
            begin = prompts[sequence]
        steps.append(tuple(Step(token, ()) for token in range(max(begin - 1, first.offset), end)))
    if all(len(some) < 2 for some in steps):
        return None
    return Decoding((first.index, *(call.index for call in mine if call is not first)), tuple(steps), own=True)


def notes_on(generation: Generation | None) -> tuple[str, ...]:
    """What a reader should know of how steps were put together."""
    if generation is None:
        return ()
    reasons: dict[str, list[str]] = {}
    for name, why in generation.refused.items():
        reasons.setdefault(why, []).append(name)
    notes = []
    for why, names in reasons.items():
        others = f" and {len(names) - 1} others" if len(names) > 1 else ""
        notes.append(f"the steps of {names[0]}{others} are shown one by one: {why}")
    if generation.origin is not None:
        notes.append(
            "the search moved sequences about: these are the beams of its last step, followed back to their beginning"
        )
    return tuple(notes)


def tokens_of(recording: Recording) -> tuple[list[list[str]] | None, list[list[str]] | None]:
    """The tokens of both sides, the generated ones in the order in which their sequences ended."""
    source, target = recording.tokens, recording.target_tokens
    generation = recording.generation() if source or target else None
    if generation is None or generation.origin is None:
        return source, target
    return (source, _followed(target, generation)) if target else (_followed(source, generation), target)


def _followed(tokens: list[list[str]] | None, generation: Generation) -> list[list[str]] | None:
    count = generation.rows - generation.prompt
    assert generation.origin is not None
    places = generation.origin[len(generation.origin) - count :].tolist() if count else []
    if tokens is None or len(tokens) != generation.origin.shape[1] or any(len(one) < count for one in tokens):
        return tokens
    return [
        one[: len(one) - count] + [tokens[at[b]][len(tokens[at[b]]) - count + n] for n, at in enumerate(places)]
        for b, one in enumerate(tokens)
    ]
