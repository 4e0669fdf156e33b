"""What is measured of which training images at which draws, and where it runs."""
