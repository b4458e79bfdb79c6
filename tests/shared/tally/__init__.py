"""A service that reads: it projects the counter's events, and takes what a district publishes."""
