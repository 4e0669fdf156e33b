"""Cases: what a model's training images did to the pictures of a dispute, and what people decided about it.

What the machine found and what people decided are kept in tables of their own, and are never written to by each other.
"""
