"""One chain as a node keeps it: driven, stored, caught up with, shown to others."""
