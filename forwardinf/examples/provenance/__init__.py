"""What a picture's file says of itself: who made it, on what terms, whether with a machine, and with what prompt."""

from .apart import Stated, read_statements

__all__ = ["Stated", "read_statements"]
