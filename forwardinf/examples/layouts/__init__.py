"""Training images as people have them, to rows: one file per layout, and what they share."""
