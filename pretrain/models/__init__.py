"""The models of a run: what it begins from, which parameters learn, and who teaches it."""
