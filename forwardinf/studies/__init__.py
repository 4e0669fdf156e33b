"""Studies: how well a method answers questions whose true answer is known. Every study resumes."""
