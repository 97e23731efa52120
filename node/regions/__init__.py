"""What a node does for its region towards the main chain: posts, audits, proves, succeeds."""
