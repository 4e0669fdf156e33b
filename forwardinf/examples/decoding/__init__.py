"""Untrusted bytes to an sRGB picture, or a refusal that says what is wrong and what to try."""

from .picture import Picture, decode_training_picture, read_picture
from .square import to_square

__all__ = ["Picture", "decode_training_picture", "read_picture", "to_square"]
