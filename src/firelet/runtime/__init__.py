"""Host side of what the guest talks to: the Runtime API and its phases."""
