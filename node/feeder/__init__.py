"""The regulator's look at the feeder: what flowed, against what meters told."""
