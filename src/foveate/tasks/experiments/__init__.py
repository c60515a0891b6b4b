"""Claims of the textbooks as experiments: train the models they speak of, measure, draw, and say whether it holds."""
