"""What goes into a page in one file: which calls and heads, as what, packed how, and the words that say so."""
