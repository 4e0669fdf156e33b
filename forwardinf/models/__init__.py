"""What can be attributed: one file per model family, and what families share."""

import os

# Set before any module here imports diffusers.
os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
# Loading a small checkpoint is no news: our own messages are the ones to read.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
