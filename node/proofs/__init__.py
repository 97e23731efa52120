"""Answers that prove themselves, and readers who trust no node."""
