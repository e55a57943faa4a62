"""What is wrong with a text, rather than with a model or a machine: who gave the text can mend it."""


class UnfitTextError(ValueError):
    """A text that a model does not take, such as one that is too long."""
