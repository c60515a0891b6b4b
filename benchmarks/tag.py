"""Tag the words of UD English LinES with their universal part of speech: accuracy on the test set.

    python benchmarks/tag.py [-o runs/tag] [--seed 1] [--threads 1]

A Transformer (self-attention) and a BiLSTM by `foveate train tag` with its usual settings; beside them the most
frequent tag of each word, nouns being what is not known. FOVEATE_DATA names the folder that holds `ud-english-lines`.
Nothing is chosen on the test set. It takes minutes.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

from corpora import data_folder
from figures import figure
from foveate.tasks.tagging import Tagging
from recipes import arguments, place, trained

GOAL = ">= 92"


def most_frequent(train: Path, test: Path) -> float:
    """Test accuracy in percent of each word's most frequent tag, and of the most frequent tag for unknown words."""
    learned, tried = (Tagging.read(path, None, skip_bad=False).items for path in (train, test))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in learned:
        for word, tag in zip(one.words, one.tags, strict=True):
            counts[word][tag] += 1
            counts[""][tag] += 1
    best = {word: found.most_common(1)[0][0] for word, found in counts.items()}
    right = [best.get(word, best[""]) == tag for one in tried for word, tag in zip(one.words, one.tags, strict=True)]
    return 100 * sum(right) / len(right)


def main(given: list[str] | None = None) -> int:
    chosen = arguments(__doc__, given)
    files = [data_folder("ud-english-lines") / f"{name}.conllu" for name in ("train", "dev", "test")]
    baseline = most_frequent(files[0], files[2])
    with place(chosen) as folder:
        kinds = {"BiLSTM": "rnn", "Transformer": "transformer"}
        tests = {
            name: trained(chosen, folder / name, "tag", files, f"--arch={arch}")["test"] for name, arch in kinds.items()
        }
    title = "UD English LinES test accuracy, Transformer"
    own, peer = tests["Transformer"], tests["BiLSTM"]
    figure(title, own["accuracy"], "%", goal=GOAL, peer=("BiLSTM", peer["accuracy"]), threads=chosen.threads)
    figure(title, own["accuracy"], "%", peer=("most frequent tag", baseline))
    unknown = "accuracy of unknown words"
    figure(f"{title}, unknown words", own[unknown], "%", peer=("BiLSTM", peer[unknown]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
