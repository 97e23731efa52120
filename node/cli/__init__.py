"""The commands of one home, by group; `cli.py` mounts them.

Modules here only parse, ask and print. What they need of the node they import when they are called,
so that `commonwatt --help` does not wait for it.
"""
