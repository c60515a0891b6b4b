"""Taking heads out of models. See docs/prune.md."""
