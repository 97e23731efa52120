"""A home's meters in, what it trades out: through an MQTT broker, as Home Assistant speaks it."""
