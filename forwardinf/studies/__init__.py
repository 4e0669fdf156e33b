"""Ground truth: questions whose right answer is known, put to a method. Each study resumes where it was cut off."""
