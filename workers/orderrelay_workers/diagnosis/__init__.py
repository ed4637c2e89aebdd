"""Is all well? Facts are asked for at the edges, and what they mean is decided in pure functions."""
