"""Where measurements come from: the built-in community, replayed files, later live meters."""
