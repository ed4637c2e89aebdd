"""The truth: which orders are booked, where each one is, and what the vendor said. All SQL of it is here."""
