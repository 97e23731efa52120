"""The contract machine: deploy gate, engine, gas, journal, Merkle state."""
