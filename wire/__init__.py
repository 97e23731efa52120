"""What crosses the network: canonical encoding, keys, signed transactions."""
