"""How homes come into a community, and who is let in."""
