"""What is attributed: one file per model family, and what families share."""

import os

# Set before any module here imports diffusers.
os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
# What goes wrong is raised, and told in our words: their logs would say it twice, with paths of this machine.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")
