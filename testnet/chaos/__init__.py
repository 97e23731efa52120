"""Disturbs a grid by a written scenario, undoes it, and judges what the grid made of it."""
