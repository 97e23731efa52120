"""The application that consensus replicates: contracts, the machine that runs them, the market."""
