"""A home in the market: what it asks, offers, signs, and must remember."""
