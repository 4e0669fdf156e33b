"""Untrusted bytes to an sRGB picture, or a refusal that says what is wrong and what to try."""

from .picture import Picture, read_picture, read_training_picture
from .square import to_square

__all__ = ["Picture", "read_picture", "read_training_picture", "to_square"]
