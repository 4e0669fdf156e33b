"""How a query and what a sweep measures become influence: one file per method, and what they share."""
