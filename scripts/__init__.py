"""Tools for who works on this repository: pages of the documentation, made of the program."""
