"""Claims: who may claim, when, and what ends a claim."""
