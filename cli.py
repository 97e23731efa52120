"""`commonwatt`: what a person types. Thin: parse, call, print."""


def main() -> None:
    """Run the command line."""
