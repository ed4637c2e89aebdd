"""The vendor's API: the one HTTP client, and what its answers mean."""
