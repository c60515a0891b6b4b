"""Classify the sentences of SST-2 (Socher et al. 2013), without pretraining: accuracy on the test set.

    python benchmarks/classify.py [-o runs/classify] [--seed 1] [--threads 1]

A BiGRU and a small Transformer, each with attention pooling (Yang et al. 2016) and with the mean of its states, all by
`foveate train classify` with its usual settings; beside them TF-IDF of words and pairs of words with logistic
regression (scikit-learn, its C chosen on validation), where it is installed. FOVEATE_DATA names the folder that holds
`sst2`. Nothing is chosen on the test set. It takes minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from corpora import data_folder
from figures import figure
from foveate.tasks.classification import Classification
from recipes import arguments, place, trained

GOAL = ">= 80"
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
KINDS = {
    "BiGRU": ("--arch=rnn",),
    "Transformer": ("--arch=transformer",),
}


def logistic(files: list[Path]) -> float | None:
    """Test accuracy of TF-IDF and logistic regression in percent; None without scikit-learn."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError:
        print("scikit-learn is not installed (pip install scikit-learn), so there is no figure of it")
        return None
    read = [Classification.read(path, None, skip_bad=False).items for path in files]
    texts = [[" ".join(one.words) for one in part] for part in read]
    labels = [[one.label for one in part] for part in read]
    counted = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
    train, valid, test = counted.fit_transform(texts[0]), *map(counted.transform, texts[1:])
    fitted = [LogisticRegression(C=c, max_iter=1000).fit(train, labels[0]) for c in STRENGTHS]
    best = max(fitted, key=lambda model: model.score(valid, labels[1]))
    return 100 * float(best.score(test, labels[2]))


def main(given: list[str] | None = None) -> int:
    chosen = arguments(__doc__, given)
    files = [data_folder("sst2") / f"{name}.tsv" for name in ("train", "dev", "test")]
    other = logistic(files)
    with place(chosen) as folder:
        for name, options in KINDS.items():
            found = {
                pooling: trained(
                    chosen, folder / f"{name}-{pooling}", "classify", files, *options, f"--pooling={pooling}"
                )["test"]["accuracy"]
                for pooling in ("attention", "mean")
            }
            peer = ("the same with mean pooling", found["mean"])
            title = f"SST-2 test accuracy, {name}, attention pooling"
            figure(title, found["attention"], "%", goal=GOAL, peer=peer, threads=chosen.threads)
            if other is not None:
                figure(title, found["attention"], "%", peer=("TF-IDF, logistic regression", other))
    return 0


if __name__ == "__main__":
    sys.exit(main())
