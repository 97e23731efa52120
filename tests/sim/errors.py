"""What ends a run."""


class Violation(Exception):
    """A property does not hold; the text names it and where."""
