"""Forward-INF: which training images made this picture?

Ko et al., "The Mirrored Influence Hypothesis: Efficient Data Influence Estimation by Harnessing Forward Passes",
CVPR 2024 (arXiv 2402.08922).
"""

__version__ = "0.1.0"
