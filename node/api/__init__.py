"""What a running node tells and takes: the control socket."""
