"""A Hub on a loopback port, for tests of what is published, found and pulled with the unmodified clients."""
