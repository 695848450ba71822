"""Ways to a device: the table of connections by kind."""
