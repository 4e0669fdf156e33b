"""How a database of cases became what it is, one file in `versions/` per change."""
