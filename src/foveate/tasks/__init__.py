"""Things to do with attention: training our own models, resolving a pronoun."""
