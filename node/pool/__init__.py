"""Transactions on their way into a block: taken in, checked once, waiting, handed on."""
