"""Agreement on one chain of blocks, as pure state machines: no clock, socket, disk or chance."""
